"""The paper's steps, a file each: sample, render, stylize, fewshot, finetune, mix, mesh."""
