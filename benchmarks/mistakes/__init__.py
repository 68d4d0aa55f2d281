"""Faulty components as language models write them: how many are caught before a training, how soon, and who is blamed."""
