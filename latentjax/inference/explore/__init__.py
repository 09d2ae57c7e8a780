"""Self-contained HTML page that runs a trained model in the browser."""
