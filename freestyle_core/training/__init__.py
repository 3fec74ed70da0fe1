"""What every training shares: the loop, checkpoints, several processes, and the paper's losses."""
