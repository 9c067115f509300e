"""``dataclass``, with the methods of a class made when they are first used (docs/decisions/0061).

The decorator of the standard library compiles six methods for each frozen class, most of which a
process never calls: that was two fifths of ``from tapescope import TaskManager``. Here the fields
are the standard library's, so that ``dataclasses.replace`` and the rest take the class for one of
their own; its ``__init__`` is compiled for its first instance; the other methods are functions
that all classes share the code of. Type checkers read the decorator of the standard library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses
    from operator import attrgetter
    from reprlib import recursive_repr

    def dataclass(*, slots, frozen=False):
        """Make a dataclass of the class: what ``dataclasses.dataclass`` makes with ``slots=True``.

        Of its fields none is an ``InitVar`` or for keywords only.
        """
        assert slots, "the __init__ made here sets slots"

        def make(plain):
            cls = dataclasses.dataclass(plain, init=False, repr=False, eq=False, slots=True)
            cls.__dataclass_params__.frozen = frozen  # so that a subclass has to be frozen as well
            own = vars(cls)
            for method in (*_common_methods(cls), *(_frozen_methods(cls) if frozen else ())):
                if method.__name__ not in own:
                    setattr(cls, method.__name__, _named(method, cls))
            if "__hash__" not in own:
                cls.__hash__ = _hash_of(cls) if frozen else None
            cls.__signature__ = _Signature(cls)
            return cls

        return make

    class _Signature:
        """What ``inspect.signature`` and ``help`` say of a class: how an instance is made."""

        def __init__(self, cls):
            self._cls = cls

        def __get__(self, instance, owner):
            from inspect import signature

            _compile_init(self._cls)
            found = signature(owner.__init__)
            return found.replace(parameters=list(found.parameters.values())[1:])

    def _named(method, cls):
        method.__qualname__ = f"{cls.__qualname__}.{method.__name__}"
        method.__module__ = cls.__module__
        return method

    def _values_of(names):
        """Give a function from an instance to what these fields of it are, as one value."""
        if len(names) > 1:
            return attrgetter(*names)
        return lambda instance: tuple([getattr(instance, name) for name in names])

    def _common_methods(cls):
        fields = dataclasses.fields(cls)
        shown = [field.name for field in fields if field.repr]
        compared = _values_of([field.name for field in fields if field.compare])

        def __init__(self, *arguments, **named):
            _compile_init(cls)
            cls.__init__(self, *arguments, **named)

        @recursive_repr()
        def __repr__(self):
            values = ", ".join([f"{name}={getattr(self, name)!r}" for name in shown])
            return f"{self.__class__.__qualname__}({values})"

        def __eq__(self, other):
            if other.__class__ is self.__class__:
                return compared(self) == compared(other)
            return NotImplemented

        return __init__, __repr__, __eq__

    def _hash_of(cls):
        hashed = _values_of(
            [
                field.name
                for field in dataclasses.fields(cls)
                if (field.compare if field.hash is None else field.hash)
            ]
        )

        def __hash__(self):
            return hash(hashed(self))

        return _named(__hash__, cls)

    def _frozen_methods(cls):
        names = frozenset(field.name for field in dataclasses.fields(cls))

        def __setattr__(self, name, value):
            if type(self) is cls or name in names:
                raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
            super(cls, self).__setattr__(name, value)

        def __delattr__(self, name):
            if type(self) is cls or name in names:
                raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
            super(cls, self).__delattr__(name)

        def __getstate__(self):
            return [getattr(self, field.name) for field in dataclasses.fields(self)]

        def __setstate__(self, state):
            for field, value in zip(dataclasses.fields(self), state, strict=True):
                object.__setattr__(self, field.name, value)

        return __setattr__, __delattr__, __getstate__, __setstate__

    class _Made:
        """The default of an argument whose value is made, as ``help`` shows it."""

        def __repr__(self):
            return "<factory>"

    def _compile_init(cls):
        """Put the real ``__init__`` in the place of the one that calls this."""
        scope = {"_made": _Made()}
        arguments, lines, annotations = ["self"], [], {}
        for field in dataclasses.fields(cls):
            name = value = field.name
            scope[f"_set_{name}"] = vars(cls)[name].__set__  # its slot, whether or not it is frozen
            made = field.default_factory is not dataclasses.MISSING
            scope[f"_default_{name}"] = field.default_factory if made else field.default
            if not field.init:
                if not made and field.default is dataclasses.MISSING:
                    continue  # it is nobody's until somebody sets it
                value = f"_default_{name}{'()' if made else ''}"
            else:
                annotations[name] = field.type
                argument = name
                if made:
                    argument += "=_made"
                    value = f"_default_{name}() if {name} is _made else {name}"
                elif field.default is not dataclasses.MISSING:
                    argument += f"=_default_{name}"
                arguments.append(argument)
            lines.append(f" _set_{name}(self, {value})")
        if hasattr(cls, "__post_init__"):
            lines.append(" self.__post_init__()")
        text = f"def __init__({', '.join(arguments)}):\n" + ("\n".join(lines) or " pass")
        exec(text, scope)
        init = _named(scope["__init__"], cls)
        init.__annotations__ = {**annotations, "return": None}
        cls.__init__ = init
