"""Mixed precision: what each layer's weights cost and harm in every width, and the best choices of all."""
