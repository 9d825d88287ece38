"""The subcommands of ``trainer``, which check a data set before training or work with finished runs."""

# For each command: its module, which defines ``add_arguments(parser)`` and ``run(arguments)``, and its help line.
COMMANDS = {
    "data": ("data.command", "check a data set before training: numbers, bad files, a page of samples"),
    "runs": ("runs", "list the runs below a folder, by config, metric, state and date"),
    "compare": ("compare", "show runs side by side: what was different, and what came of it"),
    "evaluate": ("evaluate.command", "measure a run, or the ensemble of several, on any split or data set"),
    "predict": ("predict.command", "predict the classes or values of new files, as CSV or JSON lines"),
    "explain": ("explain.command", "show what led to the prediction for each file, or what the columns of a table do"),
    "export": ("export.command", "write a run's model for other programs: ONNX, torch.export, safetensors"),
    "report": ("report.command", "make one page about a run: result, curves, mistakes, how to repeat it"),
    "reproduce": ("reproduce.command", "train a run again, and say whether the result is the same"),
    "completion": ("completion", "install tab completion for train and trainer"),
}
