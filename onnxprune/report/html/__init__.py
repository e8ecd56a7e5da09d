"""Write results as one HTML page that needs no network and no script: values in, text out."""
