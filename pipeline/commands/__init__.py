"""The commands of ``hmar``, one module each: words in, exit code out."""
