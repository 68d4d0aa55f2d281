"""The LLM team: five experts behind any OpenAI-compatible model."""
