"""Facts about models, licences, data sets and tools, as data files; the rules to read, search and judge them."""
