"""The page to play with: what it holds of a trained model, and the HTML, CSS and JavaScript that it is made of."""
