"""The same functions as tools for an agent, over the Model Context Protocol; and the prompts."""
