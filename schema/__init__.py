"""The vocabulary: frozen records and errors that pass between the rooms. Imports nothing of ours."""
