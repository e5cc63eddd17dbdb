"""What every page and figure calls the two models."""

MODEL_NAMES = {"slm": "Small model", "llm": "Large model"}
