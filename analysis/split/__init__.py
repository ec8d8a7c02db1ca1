"""How far to split a layer: efficiency over the degree, the link that a degree needs, the degree that balances."""
