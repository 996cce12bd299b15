//! Simulated Azure OpenAI resources. Shares no code with the gateway, so that two equal mistakes cannot hide each other.
