"""What the software promises, the tests that show it, and when they last did."""
