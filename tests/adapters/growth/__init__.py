"""How much work each statement of the two stores is, by the rows that the store holds."""
