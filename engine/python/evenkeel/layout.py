# SPDX-License-Identifier: Apache-2.0
"""Where the experts of a tensor lie: shapes and strides as PyTorch has them, without PyTorch."""


def expert_range(shape, strides, item_bytes: int, num_slots: int) -> tuple[int, int]:
    """(bytes of an expert, bytes from one slot's to the next) of a tensor whose first dimension is the local slot.

    ValueError says why where an expert is not a byte range of its own: slots that alternate within rows, gaps.
    """
    shape, strides = tuple(shape), tuple(strides)
    if not shape or shape[0] != num_slots:
        raise ValueError(f"its shape is {list(shape)}; the first dimension must be the {num_slots} local slots")
    inner = sorted((stride, size) for stride, size in zip(strides[1:], shape[1:]) if size != 1)
    items = 1
    for stride, size in inner:
        if size == 0:
            raise ValueError(f"its shape is {list(shape)}: an expert has no bytes")
        if stride != items:
            raise ValueError(f"an expert is not a byte range of its own: shape {list(shape)}, strides {list(strides)}")
        items *= size
    if num_slots > 1 and strides[0] < items:
        raise ValueError(f"an expert is not a byte range of its own: slots are {strides[0]} elements apart, an expert "
                         f"has {items}")
    return items * item_bytes, (strides[0] if num_slots > 1 else items) * item_bytes


def lies_in_expandable_segment(snapshot, address: int) -> bool:
    """Whether PyTorch's allocator has `address` in a segment mapped by cuMemMap. `snapshot`: torch.cuda.memory_snapshot()."""
    return any(segment.get("is_expandable", False) and
               segment["address"] <= address < segment["address"] + segment["total_size"] for segment in snapshot)


def ids_problem(dtype: str, shape, strides) -> str:
    """What is wrong with top-k ids, in words; empty where nothing is."""
    if dtype not in ("torch.int32", "torch.int64"):
        return f"topk_idx is {dtype}; torch.int32 and torch.int64 are taken"
    if len(shape) != 2 or shape[1] < 1:
        return f"topk_idx has shape {list(shape)}; it must be [tokens, top_k]"
    if shape[1] > 1 and strides[1] != 1 or shape[0] > 1 and strides[0] < shape[1]:
        return f"topk_idx has strides {list(strides)}; a token's ids must lie side by side"
    return ""
