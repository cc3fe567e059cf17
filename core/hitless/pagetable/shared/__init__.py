"""Page formats that several vendors use; each vendor names and configures its own."""
