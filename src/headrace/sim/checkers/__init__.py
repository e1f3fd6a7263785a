"""Small observers that each own one property, and the list of all of them."""
