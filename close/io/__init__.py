"""Files that are whole or not there, locks, progress, result files, spreading over Ray."""
