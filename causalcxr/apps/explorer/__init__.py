"""The explorer, in a browser: one patient and their twins, and the graph behind them."""
