"""How many kernels an op runs on a CUDA device; a copy counts as one, since it costs a launch."""

# of torch's ops that run no kernel; views are known by their schema
FREE = (
    "empty",
    "new_empty",
    "empty_like",
    "empty_strided",
    "new_empty_strided",
    "_unsafe_view",
    "_reshape_alias",
    "lift_fresh",
    "detach_",
    "set_",
)
# of torch's ops that run several: as torch.profiler shows them
SEVERAL = {"dot": 2, "sort": 2, "randperm": 6, "_local_scalar_dense": 1}
SCATTER = 11  # index_put with accumulate: a sort and its helpers

# of isample's ops; tests/cpp/cuda_*_test.cpp hold the same numbers against the kernels' launches
ISAMPLE = {
    "softmax_score": 1,
    "cross_entropy": 1,
    "_cross_entropy_with_gradient": 1,
    "_mean_cross_entropy": 1,
    "_mean_cross_entropy_with_gradient": 1,
    "recall": 1,
    "remember": 1,
    "meet": 1,
    "draw_moments": 1,
    "draw_weights": 1,
    "permuted": 1,
    "draw.prefix_sum": 1,
    "draw.table": 1,
    "rows": 0,  # which is a view; its backward pass is the next two
    "_add_row_squares": 1,
    "_scale_rows": 1,
    "distribution": 1,  # and these two, of one block's items
    "draw": 1,
    "importance_sample": 1,
    "expected_scores": 3,
    "_expected_scores_into": 3,
    "_pack": 1,
    "prefix_sum": 6,  # of more than one block's items
    "_prefix_sum_into": 6,
}


def launches_of(op, args):
    space, _, name = op.name().partition("::")
    bare = name.partition(".")[0]
    if space == "isample":
        return ISAMPLE[name]
    if space == "profiler" or op.is_view or bare in FREE:
        return 0
    if bare.startswith("index_put") or bare == "_index_put_impl_":
        return SCATTER if len(args) > 3 and args[3] else 1
    return SEVERAL.get(bare, 1)
