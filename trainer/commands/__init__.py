"""The commands of ``trainer`` besides ``train``: they check data before a run, and use runs afterwards."""

# The module of each command, which has ``add_arguments(parser)`` and ``run(arguments)``, and its line in the help.
COMMANDS = {
    "data": ("data.command", "check a data set before training: numbers, bad files, a page of samples"),
    "runs": ("runs", "list the runs below a folder, by config, metric, state and date"),
    "compare": ("compare", "show runs side by side: what was different, and what came of it"),
    "evaluate": ("evaluate.command", "measure a run, or the ensemble of several, on any split or data set"),
    "predict": ("predict.command", "predict the classes or values of new files, as CSV or JSON lines"),
    "explain": ("explain.command", "make a page that shows which parts of each file led to the prediction"),
    "export": ("export.command", "write a run's model for other programs: ONNX, torch.export, safetensors"),
    "report": ("report.command", "make one page about a run: result, curves, mistakes, how to repeat it"),
    "reproduce": ("reproduce.command", "train a run again, and say whether the result is the same"),
    "completion": ("completion", "install tab completion for train and trainer"),
}
