"""Records: their lines and files, and what follows from them; loads without torch."""
