"""The text the starter model learns from: grammars that write stories, questions, instructions and talk."""
