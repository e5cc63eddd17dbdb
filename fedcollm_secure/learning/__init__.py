"""What is learned: records, models and their adapters, local training, co-tuning, evaluation. Knows no party."""
