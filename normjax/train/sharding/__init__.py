"""Where the arrays of a program lie on the devices."""
