"""What others send in shapes of their own, read into what an integration would have sent us itself."""
