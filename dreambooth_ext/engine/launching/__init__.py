"""Several processes that train one run together: started, watched and ended as one. Needs no torch."""
