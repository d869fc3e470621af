"""Files that are whole or not there, work that shows where it is, and parts of other libraries loaded with one clear line."""
