"""The catalogue that ships, read once for all tests; nothing changes it."""

from pantry.catalogue.lookup import Catalogue

BOOK = Catalogue.open()
