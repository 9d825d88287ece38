"""Read the keys of a component from its source without importing it, so that checks and help texts need no torch.

The syntax tree of a file shows which components it registers and the typed keyword-only parameters of each component.
If it does not show the parameters (the base class is unknown, or a type is computed), ``UnreadableError`` is raised,
and the caller imports the component instead.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import importlib.machinery
import importlib.util
import inspect
import keyword
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import Any

import typing_extensions

# Modules without torch, which are imported to evaluate a type; other modules are only parsed.
LIGHT = {
    "typing",
    "typing_extensions",
    "collections.abc",
    "msgspec",
    "pathlib",
    "trainer.config",
    "trainer.config.types",
    "trainer.spec",
}


class MisplacedError(Exception):
    """A parameter has a default, as only keys may, but is not keyword-only."""


class UnreadableError(Exception):
    """The keys of a component cannot be read from its source."""


@dataclass(frozen=True)
class Declaration:
    """A component that a file registers.

    Args:
        group: the group, such as ``model``; ``metric`` for a metric.
        name: the name in a config.
        file: the file that defines the component.
        line: the line of the definition, counted from 1.
        doc: the docstring, or an empty string.
    """

    group: str
    name: str
    file: Path
    line: int
    doc: str


def components(file: Path, registries: Mapping[str, str]) -> list[Declaration]:
    """Return every component at the top level of ``file`` that a decorator registers.

    Args:
        file: a Python file.
        registries: maps the name of each registry to its group: ``{"MODELS": "model", …}``.

    Raises:
        SyntaxError: the file is not valid Python.
        OSError: the file cannot be read.
    """
    source = _parse(file)
    return [
        Declaration(group, name, file, node.lineno, ast.get_docstring(node) or "")
        for node in source.tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        for group, name in source.registered(node, registries)
    ]


def keys(file: Path, name: str) -> dict[str, Parameter]:
    """Return the keyword-only parameters of the component called ``name`` with their types and defaults.

    Raises:
        UnreadableError: the parameters cannot be read without running the file.
        MisplacedError: a parameter with a default is not keyword-only.
    """
    try:
        source = _parse(file)
        definitions = [node for node in source.tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        named = [node for node in definitions if snake_case(node.name) == name]
        if len(named) == 1:  # two definitions with this name cannot be told apart
            return dict(source.parameters(named[0]))
    except (UnreadableError, MisplacedError):
        raise
    except Exception as error:  # evaluating a type may fail in any way
        raise UnreadableError(f"{file}: {error}") from error
    raise UnreadableError(f"{file} shows no {name}")


def keys_of(component: Callable[..., Any]) -> dict[str, Parameter]:
    """Return the keyword-only parameters of an imported component with their types and defaults.

    Raises:
        MisplacedError: a parameter with a default is not keyword-only.
    """
    function = component.__init__ if inspect.isclass(component) else component
    parameters = inspect.signature(component).parameters.values()
    try:
        hints = typing_extensions.get_type_hints(function, include_extras=True)
    except NameError:  # the type of a parameter that is no key may be imported under TYPE_CHECKING only
        names = {**vars(inspect.getmodule(component)), "Any": Any}
        keys = {each.name: each.annotation for each in parameters if each.kind is Parameter.KEYWORD_ONLY}
        hints = {key: eval(kind, names) if isinstance(kind, str) else kind for key, kind in keys.items()}
    found: dict[str, Parameter] = {}
    for parameter in parameters:
        annotation = hints.get(parameter.name, _type_of(parameter.default))
        if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD and parameter.default is not Parameter.empty:
            raise _misplaced(parameter.name)
        if parameter.kind is Parameter.KEYWORD_ONLY:
            found[parameter.name] = parameter.replace(annotation=annotation)
        elif parameter.kind is Parameter.VAR_KEYWORD:
            found |= _unpacked(annotation)
    return found


def sentences(doc: str) -> tuple[str, dict[str, str]]:
    """Return the first paragraph of a docstring, and the description of each parameter in its ``Args:`` section."""
    first, _, rest = inspect.cleandoc(doc).partition("\n\n")
    _, _, arguments = rest.partition("Args:\n")
    arguments = re.split(r"\n(?=\S)", arguments)[0]
    found = re.findall(r"^ {4}(\w+)[^:\n]*: (.*(?:\n {5,}.*)*)", arguments, flags=re.MULTILINE)
    return " ".join(first.split()), {name: " ".join(text.split()).rstrip(".") for name, text in found}


def snake_case(name: str) -> str:
    """Convert a name to snake case: ``CrossEntropy`` -> ``cross_entropy``, ``BCEProb`` -> ``bce_prob``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def find_module(name: str) -> Path:
    """Return the file of a module or package without importing it or its parents.

    Raises:
        ModuleNotFoundError: there is no such module.
    """
    path, spec = None, None
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[:count]), path)
        if spec is None and count == 1:  # an editable install may have its own finder
            spec = importlib.util.find_spec(name.partition(".")[0])
        if spec is None:
            break
        path = list(spec.submodule_search_locations or [])
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return Path(spec.origin)


def _unpacked(annotation: Any) -> dict[str, Parameter]:
    """Return the parameters of ``**keys: Unpack[SomeTypedDict]``, or an empty dict for any other annotation."""
    if typing_extensions.get_origin(annotation) is not typing_extensions.Unpack:
        return {}
    return keys_in(*typing_extensions.get_args(annotation))


def _parse(file: Path) -> _ParsedFile:
    return _parse_version(file, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _parse_version(file: Path, changed: int) -> _ParsedFile:
    return _ParsedFile(file)


class _ParsedFile:
    """A parsed Python file; evaluates the names and types at its top level without running the file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.tree = ast.parse(file.read_bytes(), filename=str(file))
        self.imported: dict[str, tuple[str, str | None]] = {}  # name -> (module, attribute or None)
        self.assigned: dict[str, ast.expr] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom):
                module = self._absolute(node)
                self.imported |= {alias.asname or alias.name: (module, alias.name) for alias in node.names}
            elif isinstance(node, ast.Import):
                self.imported |= {alias.asname or alias.name: (alias.name, None) for alias in node.names}
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.assigned[node.targets[0].id] = node.value
            elif isinstance(node, ast.ClassDef):
                self.classes[node.name] = node

    def registered(
        self, node: ast.FunctionDef | ast.ClassDef, registries: Mapping[str, str]
    ) -> Iterator[tuple[str, str]]:
        """Yield ``(group, name)`` for each decorator ``@MODELS.register`` or ``@metric("name", …)`` of a definition."""
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Attribute) and decorator.attr == "register":
                registry = ast.unparse(decorator.value).rpartition(".")[2]
                original = self.imported.get(registry, ("", None))[1] or registry
                if original in registries:
                    yield registries[original], snake_case(node.name)
            elif isinstance(decorator, ast.Call) and ast.unparse(decorator.func).rpartition(".")[2] == "metric":
                name = decorator.args[0] if decorator.args else None
                if isinstance(name, ast.Constant):
                    yield "metric", str(name.value)

    def parameters(self, node: ast.FunctionDef | ast.ClassDef) -> Iterator[tuple[str, Parameter]]:
        for decorator in node.decorator_list:
            if not (isinstance(decorator, ast.Attribute) and decorator.attr == "register"):
                raise UnreadableError(f"{self.file}: {node.name} is wrapped by {ast.unparse(decorator)}")
        if isinstance(node, ast.ClassDef):
            init = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
            if not init:
                yield from self._inherited(node)
                return
            node = init[0]
        if node.args.defaults:
            raise _misplaced(node.args.args[-len(node.args.defaults)].arg)
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
            value = Parameter.empty if default is None else self.value(default)
            annotation = _type_of(value) if argument.annotation is None else self.annotation(argument.annotation)
            yield argument.arg, Parameter(argument.arg, Parameter.KEYWORD_ONLY, default=value, annotation=annotation)
        if node.args.kwarg is not None and node.args.kwarg.annotation is not None:
            yield from _unpacked(self.annotation(node.args.kwarg.annotation)).items()

    def _inherited(self, node: ast.ClassDef) -> Iterator[tuple[str, Parameter]]:
        """Yield the keys of the base classes of a class that does not define ``__init__``."""
        for base in node.bases:
            if not isinstance(base, ast.Name):
                if ast.unparse(base) in ("nn.Module", "torch.nn.Module"):
                    continue
                raise UnreadableError(f"{self.file}: {node.name} takes its parameters from {ast.unparse(base)}")
            source, name = self, base.id
            if name in self.imported:
                module, attribute = self.imported[name]
                source, name = _parse(find_module(module)), attribute or name
            if name not in source.classes:
                raise UnreadableError(f"{self.file}: {node.name} takes its parameters from {base.id}")
            yield from source.parameters(source.classes[name])

    def annotation(self, expression: ast.expr) -> Any:
        """Evaluate a type annotation, which may be a string."""
        if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
            expression = ast.parse(expression.value, mode="eval").body
        return self.value(expression)

    def value(self, expression: ast.expr) -> Any:
        """Evaluate an expression that consists of types and constants."""
        names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
        scope = {name: value for name in names if (value := self.meaning(name)) is not _UNBOUND}
        return eval(compile(ast.Expression(expression), str(self.file), "eval"), scope)

    def meaning(self, name: str) -> Any:
        if name in self.classes:
            return self._typed_dict(self.classes[name])
        if name in self.assigned:
            return self.value(self.assigned[name])
        if name in self.imported:
            module, attribute = self.imported[name]
            if module in LIGHT:
                loaded = importlib.import_module(module)
                return loaded if attribute is None else getattr(loaded, attribute)
            if attribute is None:
                raise UnreadableError(f"{self.file}: module {name} is not imported")
            return _parse(find_module(module)).meaning(attribute)
        return _UNBOUND

    def _typed_dict(self, node: ast.ClassDef) -> Any:
        fields: dict[str, Any] = {}
        for base in node.bases:
            if ast.unparse(base).rpartition(".")[2] == "TypedDict":
                continue
            if not isinstance(base, ast.Name) or not typing.is_typeddict(found := self.meaning(base.id)):
                raise UnreadableError(f"{self.file}: {node.name} is not a TypedDict")
            fields |= typing_extensions.get_type_hints(found, include_extras=True)
        if not node.bases:
            raise UnreadableError(f"{self.file}: {node.name} is not a TypedDict")
        for part in node.body:
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                fields[part.target.id] = self.annotation(part.annotation)
        return typing.TypedDict(node.name, fields)  # type: ignore[operator]

    def _absolute(self, node: ast.ImportFrom) -> str:
        """Return the absolute module name of a ``from … import`` statement, which may be relative."""
        if not node.level:
            return node.module or ""
        folder = self.file.parent
        package: list[str] = []
        while (folder / "__init__.py").is_file():
            package.insert(0, folder.name)
            folder = folder.parent
        package = package[: len(package) - node.level + 1]
        return ".".join([*package, *([node.module] if node.module else [])])


_UNBOUND = object()


def _type_of(default: Any) -> Any:
    """Infer the type of a key that has no annotation from its default."""
    return type(default) if type(default) in (bool, int, float, str, list) else Any


def _misplaced(name: str) -> MisplacedError:
    return MisplacedError(f"{name} has a default but is not keyword-only; write it after the *: (…, *, {name}=…)")


def keys_in(annotation: Any) -> dict[str, Parameter]:
    """Return the fields of a dataclass or TypedDict with their types and defaults; an empty dict for other types."""
    if not dataclasses.is_dataclass(annotation) and not typing_extensions.is_typeddict(annotation):
        return {}
    defaults: dict[str, Any] = {}
    if dataclasses.is_dataclass(annotation):
        for field in dataclasses.fields(annotation):
            if field.default is not dataclasses.MISSING:
                defaults[field.name] = field.default
            elif field.default_factory is not dataclasses.MISSING:
                defaults[field.name] = field.default_factory()
    return {
        # A key may be a Python keyword such as async, but the name of a Parameter may not.
        name: Parameter(
            f"{name}_" if keyword.iskeyword(name) else name,
            Parameter.KEYWORD_ONLY,
            annotation=kind,
            default=defaults.get(name, Parameter.empty),
        )
        for name, kind in typing_extensions.get_type_hints(annotation, include_extras=True).items()
    }
