"""What a user runs: a package for each verb of the command line, and for each thing that a run keeps."""
