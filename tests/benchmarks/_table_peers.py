"""Train a peer with its defaults on a table, and write its answers for test; ``tables.py`` runs this in a process."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def main() -> None:
    name, train_file, test_file, target, task, number, output = sys.argv[1:]
    is_class, seed = bool(int(task)), int(number)
    header = None if target.isdigit() else 0
    read = [
        pd.read_csv(file, header=header, skipinitialspace=True, na_values=["?"], quotechar='"')
        for file in (train_file, test_file)
    ]
    column = int(target) if target.isdigit() else target
    train, test = read
    train = train if is_class else train[train[column].notna()]
    y = train[column]
    features = [each for each in train.columns if each != column]
    x, x_test = train[features].copy(), test[features].copy()
    for each in features:
        if not pd.api.types.is_numeric_dtype(x[each]):
            levels = sorted(x[each].dropna().astype(str).unique())
            x[each] = pd.Categorical(x[each].where(x[each].isna(), x[each].astype(str)), categories=levels)
            x_test[each] = pd.Categorical(
                x_test[each].where(x_test[each].isna(), x_test[each].astype(str)), categories=levels
            )
    x.columns = x_test.columns = [f"c{at}" for at in range(len(features))]
    texts = [each for each in x.columns if x[each].dtype.name == "category"]
    classes = sorted(y.astype(str).unique()) if is_class else []
    labels = y.astype(str).map({each: at for at, each in enumerate(classes)}) if is_class else y.astype(float)
    began = time.perf_counter()
    model, prepare = build(name, is_class, seed, texts, x)
    model.fit(prepare(x), labels.to_numpy() if name != "realmlp" else labels)
    scores = model.predict_proba(prepare(x_test)) if is_class else model.predict(prepare(x_test))
    fit = time.perf_counter() - began
    answers = {"classes": classes, "scores": np.asarray(scores, dtype=float).tolist(), "fit": fit}
    Path(output).write_text(json.dumps(answers))


def build(name: str, is_class: bool, seed: int, texts: list[str], x: Any) -> tuple[Any, Any]:
    """Return an unfitted model and a function that prepares its inputs."""
    if name == "lightgbm":
        import lightgbm

        return (lightgbm.LGBMClassifier if is_class else lightgbm.LGBMRegressor)(
            random_state=seed, verbose=-1
        ), lambda x: x
    if name == "xgboost":
        import xgboost

        kind = xgboost.XGBClassifier if is_class else xgboost.XGBRegressor
        return kind(random_state=seed, enable_categorical=True), lambda x: x
    if name == "catboost":
        import catboost

        kind = catboost.CatBoostClassifier if is_class else catboost.CatBoostRegressor
        model = kind(random_seed=seed, verbose=False, cat_features=texts, allow_writing_files=False)
        return model, lambda x: x.assign(
            **{each: x[each].astype(object).where(x[each].notna(), "missing").astype(str) for each in texts}
        )
    if name == "realmlp":
        from pytabkit import (
            RealMLP_TD_Classifier,
            RealMLP_TD_Regressor,
        )

        kind = RealMLP_TD_Classifier if is_class else RealMLP_TD_Regressor
        numbers = [each for each in x.columns if each not in texts]
        medians = x[numbers].median()

        def filled(x: Any) -> Any:  # RealMLP takes no missing numbers
            x = x.copy()
            for each in numbers:
                x[each] = x[each].fillna(medians[each]).astype(float)
            return x

        return kind(random_state=seed, device="cpu", verbosity=0), filled
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = [each for each in x.columns if each not in texts]
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (make_pipeline(OneHotEncoder(handle_unknown="ignore")), texts),
    )
    last = LogisticRegression(max_iter=1000) if is_class else LinearRegression()

    def as_objects(x: Any) -> Any:
        return x.assign(
            **{each: x[each].astype(object).where(x[each].notna(), "missing").astype(str) for each in texts}
        )

    return make_pipeline(columns, last), as_objects


if __name__ == "__main__":
    main()
