"""The C structures and signatures of `layers.h` and `decoder.c`, as ctypes knows them."""

import ctypes
from ctypes import POINTER, Structure, c_float, c_int, c_int32, c_void_p

INTERFACE = 1


class Weight(Structure):
    """A matrix in panels, or none (`outputs` 0)."""

    _fields_ = (
        ("panels", c_void_p),
        ("bias", c_void_p),
        ("inputs", c_int32),
        ("outputs", c_int32),
        ("format", c_int32),
        ("reserved", c_int32),
    )


class Attention(Structure):
    """Weights and lanes of one layer's attention."""

    _fields_ = (
        ("queries_keys_values", Weight),
        ("output", Weight),
        ("query_norm", c_void_p),
        ("key_norm", c_void_p),
        ("keys", c_void_p),
        ("values", c_void_p),
    )


class Mlp(Structure):
    """Weights of one gated MLP."""

    _fields_ = (("gate", Weight), ("up", Weight), ("down", Weight))


class Layer(Structure):
    """One layer."""

    _fields_ = (
        ("attention", Attention),
        ("mlp", Mlp),
        ("attention_norm", c_void_p),
        ("mlp_norm", c_void_p),
    )


class Shape(Structure):
    """What all layers of a stage share."""

    _fields_ = (
        ("rotary", c_void_p),
        ("hidden", c_int32),
        ("heads", c_int32),
        ("key_value_heads", c_int32),
        ("head_size", c_int32),
        ("lane_tokens", c_int32),
        ("window", c_int32),
        ("epsilon", c_float),
        ("reserved", c_int32),
    )


class Rows(Structure):
    """The tokens of a micro-batch, and room for what they become."""

    _fields_ = (
        ("lanes", c_void_p),
        ("positions", c_void_p),
        ("normed", c_void_p),
        ("heads", c_void_p),
        ("attended", c_void_p),
        ("inner", c_void_p),
        ("scores", c_void_p),
        ("num_tokens", c_int32),
        ("reserved", c_int32),
    )


def declare(library: ctypes.CDLL) -> None:
    """Tell ctypes the signatures: a wrong call is an error, not a crash."""
    team, numbers = c_void_p, c_void_p
    library.lw_make_team.argtypes, library.lw_make_team.restype = (c_int,), c_void_p
    library.lw_run_layers.argtypes = (
        *(team, POINTER(Shape), POINTER(Layer), c_int),
        *(POINTER(Rows), numbers),
    )
    library.lw_run_attention.argtypes = (
        *(team, POINTER(Shape), POINTER(Layer)),
        *(POINTER(Rows), numbers, numbers),
    )
    library.lw_run_mlp.argtypes = (team, POINTER(Layer), POINTER(Rows), numbers, numbers)
    library.lw_run_product.argtypes = (team, POINTER(Weight), numbers, c_int, numbers)
    library.lw_read_rows.argtypes = (POINTER(Weight), c_void_p, c_int, numbers)
    library.lw_pack.argtypes = (POINTER(Weight), c_int, c_int, c_void_p, c_void_p)
    for name in ("layers", "attention", "mlp", "product"):
        getattr(library, f"lw_run_{name}").restype = None
    library.lw_read_rows.restype = library.lw_pack.restype = None
