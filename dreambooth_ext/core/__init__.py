"""What host, engine and command line share: standard library only, for Python 3.10 to 3.13."""
