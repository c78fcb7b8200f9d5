"""Published weights come into our models from every naming, and equal their peers.

Each peer is a real model of its package with every weight drawn. Ours gets what
`convert_state_dict` makes of the peer's own state dict and must give the same logits.
"""

import re
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from weights import answer, distance, released_t2t

from course_vit.kit.demo_weights import as_jax
from course_vit.kit.weights import read_weights

TOLERANCE = 2e-5
SIZES = {"patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 7}
SIDE, OTHER_SIDE = 224, 160  # 28 x 28 patches, and 20 x 20


# The peers


def timm_vit(side=SIDE):
    from timm.models import VisionTransformer

    return VisionTransformer(img_size=side, **SIZES)


def timm_deit(side=SIDE):
    from timm.models.deit import VisionTransformerDistilled

    model = VisionTransformerDistilled(img_size=side, **SIZES)
    model.set_distilled_training(True)
    return model


def torchvision_vit(side=SIDE):
    from torchvision.models import VisionTransformer

    sizes = {"num_layers": 2, "num_heads": 3, "hidden_dim": 48, "mlp_dim": 192}
    return VisionTransformer(image_size=side, patch_size=8, num_classes=7, **sizes)


def transformers_model(config, model, side=SIDE):
    import transformers

    sizes = {"num_hidden_layers": 2, "num_attention_heads": 3, "hidden_size": 48}
    options = {"patch_size": 8, "intermediate_size": 192, "num_labels": 7}
    return getattr(transformers, model)(
        getattr(transformers, config)(
            image_size=side, layer_norm_eps=1e-6, **sizes, **options
        )
    )


PEERS = {
    "timm": timm_vit,
    "timm DeiT": timm_deit,
    "torchvision": torchvision_vit,
    "transformers": partial(
        transformers_model, "ViTConfig", "ViTForImageClassification"
    ),
    "transformers DeiT": partial(
        transformers_model, "DeiTConfig", "DeiTForImageClassificationWithTeacher"
    ),
}


@torch.no_grad()
def drawn(model):
    """A model in eval with every weight drawn: no mistake can hide behind a zero."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape)
        if parameter.ndim == 1 and name.endswith("weight"):
            noise = 1 + 0.3 * noise
        elif name.endswith("weight"):
            noise *= parameter[0].numel() ** -0.5
        else:
            noise *= 0.5
        parameter.copy_(noise)
    return model.eval()


def ours(package, naming="", side=SIDE, **options):
    distilled = "DeiT" in naming
    kind = "DistilledVisionTransformer" if distilled else "VisionTransformer"
    return getattr(package, kind)(img_size=side, **SIZES | options).eval()


def logits(model, images):
    """What a model answers; of a distilled one, what each of its two heads does."""
    if hasattr(model, "head_dist"):
        by_class, by_distillation = model.train()(images)
        model.eval()
        return torch.cat([by_class, by_distillation]).detach()
    with torch.no_grad():
        out = model(images)
    if hasattr(out, "distillation_logits"):
        return torch.cat([out.cls_logits, out.distillation_logits])
    return getattr(out, "logits", out)


def images_of(side):
    torch.manual_seed(1)
    return torch.randn(2, 3, side, side)


def load(package, model, state_dict, naming=None, policy="timm"):
    return package.load_weights(
        model, package.convert_state_dict(state_dict, naming), policy
    )


def version_4(state_dict):
    """The keys as transformers 4 named them, and as every file still does."""
    changes = {
        r"layers\.(\d+)\.": r"encoder.layer.\1.",
        r"attention\.q_proj": "attention.attention.query",
        r"attention\.k_proj": "attention.attention.key",
        r"attention\.v_proj": "attention.attention.value",
        r"attention\.o_proj": "attention.output.dense",
        r"mlp\.fc1": "intermediate.dense",
        r"mlp\.fc2": "output.dense",
    }
    for old, new in changes.items():
        state_dict = {re.sub(old, new, key): t for key, t in state_dict.items()}
    return state_dict


def before_0_13(state_dict):
    """The keys of torchvision's MLP as its published files have them."""
    names = {"mlp.0": "mlp.linear_1", "mlp.3": "mlp.linear_2"}
    for new, old in names.items():
        state_dict = {key.replace(new, old): t for key, t in state_dict.items()}
    return state_dict


# Round trips


@pytest.mark.parametrize("named", [True, False], ids=["named", "recognised"])
@pytest.mark.parametrize("peer", PEERS)
def test_the_weights_of_a_peer_give_the_logits_of_the_peer(package, peer, named):
    theirs, model = drawn(PEERS[peer]()), ours(package, peer)
    said = load(package, model, theirs.state_dict(), peer.split()[0] if named else None)
    assert said == []
    images = images_of(SIDE)
    assert distance(logits(model, images), logits(theirs, images)) <= TOLERANCE


@pytest.mark.parametrize(
    ("peer", "older"),
    [
        ("transformers", version_4),
        ("transformers DeiT", version_4),
        ("torchvision", before_0_13),
    ],
)
def test_the_names_of_older_versions_are_known(package, peer, older):
    state = drawn(PEERS[peer]()).state_dict()
    new, old = package.convert_state_dict(state), older(state)
    assert not old.keys() & {key for key in state if "mlp" in key}
    old = package.convert_state_dict(old)
    assert new.keys() == old.keys()
    assert all(torch.equal(new[key], old[key]) for key in new)


@pytest.mark.parametrize("peer", ["transformers", "transformers DeiT"])
def test_what_transformers_saves_can_be_loaded(package, peer, tmp_path):
    theirs, model = drawn(PEERS[peer]()), ours(package, peer)
    theirs.save_pretrained(tmp_path)
    load(package, model, load_file(tmp_path / "model.safetensors"))
    images = images_of(SIDE)
    assert distance(logits(model, images), logits(theirs, images)) <= TOLERANCE


def test_our_jax_layout_is_the_one_that_timm_reads(package, tmp_path):
    import numpy as np

    theirs, state = timm_vit().eval(), drawn(timm_vit()).state_dict()
    arrays = {key: tensor.cpu().numpy() for key, tensor in as_jax(state, 3).items()}
    np.savez(tmp_path / "vit.npz", **arrays)
    theirs.load_pretrained(str(tmp_path / "vit.npz"))
    assert all(torch.equal(theirs.state_dict()[key], state[key]) for key in state)
    model = ours(package)
    assert load(package, model, as_jax(state, 3)) == []
    images = images_of(SIDE)
    assert distance(logits(model, images), logits(theirs, images)) <= TOLERANCE


@pytest.mark.parametrize("kind", ["performer", "transformer"])
@pytest.mark.parametrize("naming", [None, "t2t"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_t2t_weights_give_the_released_logits(package, kind, prefix, naming):
    model, golden = released_t2t(package, kind, torch.float32)
    state = {prefix + key: tensor for key, tensor in golden["weights"].items()}
    assert load(package, model, state, naming) == []
    assert distance(answer(model, golden["input"]), golden["logits"]) <= TOLERANCE


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "_orig_mod.", "module._orig_mod.", "model.", "backbone."),
        *("encoder.", "image_encoder.", "my_vit.", "_forward_module.", "0.1."),
    ],
)
def test_what_wraps_a_model_is_taken_off(package, peer, prefix):
    state = drawn(PEERS[peer]()).state_dict()
    expected = package.convert_state_dict(state)
    wrapped = {prefix + key: tensor for key, tensor in state.items()}
    found = package.convert_state_dict(wrapped)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("mark", ["_orig_mod.", "_checkpoint_wrapped_module."])
def test_blocks_that_were_compiled_one_by_one_are_known(package, peer, mark):
    state = drawn(PEERS[peer]()).state_dict()
    marked = {re.sub(r"([_.]\d+\.)", rf"\1{mark}", key): t for key, t in state.items()}
    assert mark in "".join(marked)
    converted = package.convert_state_dict(marked)
    assert converted.keys() == package.convert_state_dict(state).keys()


@pytest.fixture
def left_out(package, tmp_path):
    """Convert a file of which something is left out; returns also what it was."""

    def read(state):
        torch.save(state, tmp_path / "a.pth")
        with pytest.warns(UserWarning, match="no such layers") as said:
            tensors = read_weights(tmp_path / "a.pth")
        assert len(said) == 1
        left = str(said[0].message).split("layers: ")[1].split(", ")
        return package.convert_state_dict(tensors), left

    return read


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        *(("model.", "criterion.weight"), ("module.", "n_averaged")),
        *(("encoder.", "decoder.blocks.0.norm1.bias"), ("net.", "net.mask_token")),
        *(("backbone.", "head.mlp.0.weight"), ("a.", "b.0.blocks.0.attn.norm.bias")),
        *(("", "mask_token"), ("", "decoder_pos_embed"), ("", "decoder.norm.bias")),
    ],
)
def test_what_is_beside_the_model_is_left_out_and_named(
    package, left_out, peer, prefix, key
):
    state = drawn(PEERS[peer]()).state_dict()
    expected = package.convert_state_dict(state)
    wrapped = {prefix + name: tensor for name, tensor in state.items()}
    converted, left = left_out(wrapped | {key: torch.ones(3)})
    assert left == [key]
    assert all(torch.equal(converted[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("config", "model"),
    [
        ("ViTMAEConfig", "ViTMAEForPreTraining"),
        ("ViTConfig", "ViTForMaskedImageModeling"),
    ],
)
def test_a_pretraining_of_transformers_leaves_a_fresh_head(
    package, left_out, config, model
):
    state = transformers_model(config, model).state_dict()
    converted, _ = left_out(state)
    own = {key: t for key, t in state.items() if "mask" not in key and "vit." in key}
    assert converted.keys() == package.convert_state_dict(own).keys()
    (said,) = package.load_weights(ours(package), converted)
    assert said.startswith("head.weight, head.bias are newly initialised")


def test_a_class_around_a_backbone_may_have_the_head(package, left_out, tmp_path):
    state = ours(package).state_dict()
    around = {
        key if key.startswith("head.") else f"backbone.{key}": tensor
        for key, tensor in state.items()
    }
    assert package.convert_state_dict(around).keys() == state.keys()
    torch.save(around, tmp_path / "a.pth")
    assert read_weights(tmp_path / "a.pth").keys() == around.keys()
    renamed = {key.replace("head.", "fc."): tensor for key, tensor in around.items()}
    converted, left = left_out(renamed)
    assert left == ["fc.weight", "fc.bias"]
    assert len(package.load_weights(ours(package), converted)) == 1


@pytest.mark.parametrize("prefix", ["", "net."])
@pytest.mark.parametrize(
    "key", ["blocks.0.ls1.gamma", "blocks.1.mlp.norm.bias", "reg_token", "fc_norm.bias"]
)
def test_a_layer_that_ours_lacks_is_refused(package, prefix, key):
    state = ours(package).state_dict() | {key: torch.ones(48)}
    words = rf"not in the naming 'timm': {prefix}{key} \(1 of 33 keys\)"
    with pytest.raises(ValueError, match=words):
        package.convert_state_dict({prefix + name: t for name, t in state.items()})


def test_two_copies_of_a_model_are_refused(package):
    state = ours(package).state_dict()
    both = {f"{who}.{key}": t for key, t in state.items() for who in ("one", "two")}
    with pytest.raises(ValueError, match=r"same tensors: one\.cls_token, two\.cls_to"):
        package.convert_state_dict(both)


def test_our_own_weights_are_of_the_naming_timm(package):
    state = ours(package).state_dict()
    assert package.recognise_naming(state) == "timm"
    converted = package.convert_state_dict(state)
    assert all(converted[key] is state[key] for key in state)


@pytest.mark.parametrize("name", ["norm1", "norm2", "attn.proj", "mlp.fc1", "mlp.fc2"])
def test_block_numbers_of_two_digits(package, name):
    names = {
        "torchvision": "encoder.layers.encoder_layer_{}.",
        "transformers": "vit.layers.{}.",
        "jax": "Transformer/encoderblock_{}/",
    }
    for naming, block in names.items():
        part = next(
            their for their, our in package.NAMINGS[naming].items() if our == name
        )
        end = {"jax": "/scale" if "norm" in name else "/kernel"}.get(naming, ".weight")
        key = block.format(11) + part + end
        wrapper, renamed = package.rename_key(key, package.NAMINGS[naming])
        assert renamed == f"blocks.11.{name}.weight"
        assert wrapper == ("vit." if naming == "transformers" else "")


# Other channels


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_other_channels_as_timm(package, peer, channels):
    from timm.models import adapt_input_conv

    state = package.convert_state_dict(drawn(PEERS[peer]()).state_dict())
    model = ours(package, peer, in_chans=channels)
    assert package.load_weights(model, state) == []
    expected = adapt_input_conv(channels, state["patch_embed.proj.weight"])
    assert torch.equal(model.patch_embed.proj.weight, expected)


def test_only_a_kernel_for_three_channels_is_fitted(package):
    four = torch.ones(48, 4, 8, 8)
    assert package.fit_channels(four, 5) is four
    state = ours(package).state_dict() | {"patch_embed.proj.weight": four}
    with pytest.raises(ValueError, match=r"proj.weight \(48, 4, 8, 8\), not \(48, 3"):
        package.load_weights(ours(package), state)
    for channels in (0, -1, 2.0):
        with pytest.raises(ValueError, match="in_chans must be a positive integer"):
            package.fit_channels(torch.ones(48, 3, 8, 8), channels)


# Another resolution, by each policy, against the peer that defines it


def at_another_size(package, peer, state, policy):
    """Our logits of `OTHER_SIDE` pixels with weights for `SIDE`."""
    model = ours(package, peer, OTHER_SIDE)
    assert load(package, model, state, None, policy) == []
    return logits(model, images_of(OTHER_SIDE))


@pytest.mark.parametrize("peer", ["timm", "timm DeiT"])
def test_another_size_as_timm(package, peer):
    from timm.models.vision_transformer import checkpoint_filter_fn

    state, theirs = drawn(PEERS[peer]()).state_dict(), PEERS[peer](OTHER_SIDE).eval()
    theirs.load_state_dict(checkpoint_filter_fn(dict(state), theirs))
    expected = logits(theirs, images_of(OTHER_SIDE))
    assert distance(at_another_size(package, peer, state, "timm"), expected) < TOLERANCE
    others = at_another_size(package, peer, state, "transformers")
    assert distance(others, expected) > 1e-3


def test_another_size_as_torchvision(package):
    from torchvision.models.vision_transformer import interpolate_embeddings

    state, theirs = drawn(torchvision_vit()).state_dict(), torchvision_vit(OTHER_SIDE)
    theirs.load_state_dict(interpolate_embeddings(OTHER_SIDE, 8, dict(state)))
    expected = logits(theirs.eval(), images_of(OTHER_SIDE))
    found = at_another_size(package, "torchvision", state, "torchvision")
    assert distance(found, expected) <= TOLERANCE
    found = at_another_size(package, "torchvision", state, "timm")
    assert distance(found, expected) > 1e-3


@pytest.mark.parametrize(
    ("peer", "policy"),
    [("transformers", "transformers"), ("transformers DeiT", "deit")],
)
def test_another_size_as_transformers(package, peer, policy):
    theirs, images = drawn(PEERS[peer]()), images_of(OTHER_SIDE)
    with torch.no_grad():
        out = theirs(images, interpolate_pos_encoding=True)
    expected = out.logits
    if "DeiT" in peer:
        expected = torch.cat([out.cls_logits, out.distillation_logits])
    found = at_another_size(package, peer, theirs.state_dict(), policy)
    assert distance(found, expected) <= TOLERANCE


def test_another_size_as_jax(package):
    from scipy.ndimage import zoom

    state = drawn(timm_vit()).state_dict()
    arrays, theirs = as_jax(state, 3), timm_vit(OTHER_SIDE).eval()
    place = "Transformer/posembed_input/pos_embedding"
    old, new = SIDE // 8, OTHER_SIDE // 8  # as vit_jax/checkpoint.py
    first, grid = arrays[place][:, :1], arrays[place][0, 1:].reshape(old, old, -1)
    grid = torch.tensor(zoom(grid.cpu(), (new / old, new / old, 1), order=1)).to(first)
    stretched = torch.cat([first, grid.reshape(1, new * new, -1)], dim=1)
    theirs.load_state_dict({**state, "pos_embed": stretched})
    expected = logits(theirs, images_of(OTHER_SIDE))
    found = at_another_size(package, "jax", arrays, "jax")
    assert distance(found, expected) <= TOLERANCE


def test_t2t_positions_are_stretched_as_in_its_release(package):
    old, new = package.T2TViT(64, depth=1), package.T2TViT(96, depth=1)
    state = old.state_dict()
    assert package.load_weights(new, state, "deit") == []
    grid = state["pos_embed"][:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(6, 6), mode="bicubic")
    assert torch.allclose(new.pos_embed[0, 1:], grid.flatten(2)[0].T)
    assert not torch.allclose(new.pos_embed, package.T2TViT(96, depth=1).pos_embed)


@pytest.mark.parametrize(
    ("keys", "twice"),
    [
        (["module.norm.bias", "norm.bias"], "module.norm.bias, norm.bias"),
        (["vit.head.bias", "deit.head.bias"], "vit.head.bias, deit.head.bias"),
        (["norm.weight", "norm.scale", "head.bias"], "norm.weight, norm.scale"),
    ],
)
def test_two_keys_for_one_tensor_are_refused(package, keys, twice):
    words = f"^these keys mean the same tensors: {re.escape(twice)}; keep one$"
    with pytest.raises(ValueError, match=words):
        package.convert_state_dict({key: torch.ones(48) for key in keys})


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool])
def test_numbers_that_are_not_of_floating_point_are_refused(package, dtype):
    model, state = ours(package), ours(package).state_dict()
    state["norm.weight"] = state["norm.weight"].to(dtype)
    with pytest.raises(ValueError, match=rf"not floating-point: norm\.weight {dtype};"):
        package.load_weights(model, state)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e39])
def test_numbers_that_are_none_are_refused_by_name(package, value):
    """1e39 is a number in the file and none in a model in float32."""
    model, state = ours(package), ours(package).state_dict()
    before = {key: t.clone() for key, t in model.state_dict().items()}
    state["head.bias"] = torch.full((7,), value, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"do not fit: not finite: head\.bias; build"):
        package.load_weights(model, state)
    assert all(torch.equal(before[key], t) for key, t in model.state_dict().items())


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("call", ["convert_state_dict", "load_weights"])
@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda one: None,
            TypeError,
            "a dictionary of tensors, got <class 'NoneType'>",
        ),
        (lambda one: [one], TypeError, "a dictionary of tensors, got <class 'list'>"),
        (lambda one: {3: one}, TypeError, "names and tensors, got 3: <class 'torch.T"),
        (lambda one: {"a": one.numpy()}, TypeError, "got 'a': <class 'numpy.ndarray'>"),
        (
            lambda one: {"a": one.to_sparse()},
            ValueError,
            "a must be .* torch.sparse_coo",
        ),
        (lambda one: {"a": one.to("meta")}, ValueError, "a must be .* on meta"),
        (
            lambda one: {"a": torch.quantize_per_tensor(one, 0.1, 0, torch.qint8)},
            *(ValueError, "a must be a plain tensor .* torch.qint8 on cpu"),
        ),
    ],
)
def test_what_is_no_dictionary_of_tensors_is_refused(package, call, make, error, words):
    first = [ours(package)] if call == "load_weights" else []
    with pytest.raises(error, match=words):
        getattr(package, call)(*first, make(torch.ones(2)))


@pytest.mark.parametrize("key", ["head.weight", "head.bias", "pos_embed"])
@pytest.mark.parametrize("classes", [7, 5])
def test_a_tensor_without_axes_is_refused(package, key, classes):
    state = ours(package).state_dict() | {key: torch.tensor(1.0)}
    if (key, classes) == ("head.bias", 5):  # goes with the rest of the head
        assert len(package.load_weights(ours(package, num_classes=5), state)) == 1
        return
    with pytest.raises(ValueError, match=rf"of a different shape: {key} \(\), not"):
        package.load_weights(ours(package, num_classes=classes), state)


@pytest.mark.parametrize(
    ("naming", "key", "name"),
    [
        ("torchvision", "heads.pre_logits.bias", "pre_logits.fc.bias"),
        ("torchvision", "heads.head.bias", "head.bias"),
        ("torchvision", "heads.bias", "head.bias"),
        ("transformers", "vit.pooler.dense.weight", "pre_logits.fc.weight"),
        ("jax", "pre_logits/kernel", "pre_logits.fc.weight"),
        ("jax", "opt/target/Transformer/encoder_norm/scale", "norm.weight"),
    ],
)
def test_what_only_some_files_have_is_known(package, naming, key, name):
    assert package.rename_key(key, package.NAMINGS[naming])[1] == name


@pytest.mark.parametrize(
    "key",
    [
        *("mask_token", "decoder_blocks.0.norm1.weight", "blocks.0.attn.q_norm.bias"),
        *("fc_norm.weight", "my_classifier.bias", "layer1.0.bn1.running_mean"),
    ],
)
def test_what_is_not_made_of_our_words_is_not_known(package, key):
    for words in package.NAMINGS.values():
        assert package.rename_key(key, words)[1] == ""


def test_a_tensor_of_jax_with_other_axes_is_refused(package):
    state = as_jax(ours(package).state_dict(), 3)
    key = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1/query/kernel"
    state[key] = state[key].flatten(1)
    with pytest.raises(
        ValueError, match=rf"{key} must have the axes 'd h e', got shape .48"
    ):
        package.convert_state_dict(state)


def test_positions_are_stretched_in_float32_at_least(package):
    model = ours(package, side=OTHER_SIDE)
    position = torch.randn(1, 1 + 28 * 28, 48)
    half = package.fit_positions(position.bfloat16(), model)
    assert half.dtype == torch.float32
    assert torch.equal(half, package.fit_positions(position.bfloat16().float(), model))
    assert package.fit_positions(position.double(), model).dtype == torch.float64


@pytest.mark.parametrize("side", [(16, 40), (16, 64)])  # 10 patches; 16, a square
def test_an_oblong_grid_keeps_a_table_of_its_own(package, side):
    model = package.VisionTransformer(side, 8, 3, 7, 48, 1, 3)
    state = {key: t + 1 for key, t in model.state_dict().items()}
    assert package.load_weights(model, state) == []
    assert torch.equal(model.pos_embed, state["pos_embed"])


def test_a_grid_that_is_said_is_believed(package):
    model = package.VisionTransformer((16, 64), 8, 3, 7, 48, 1, 3)
    for old in ((4, 4), (3, 5)):
        table = torch.randn(1, 1 + old[0] * old[1], 48)
        state = {**model.state_dict(), "pos_embed": table}
        assert package.load_weights(model, state, "deit", old) == []
        expected = package.resize_position_embedding(table, (2, 8), 1, "deit", old)
        assert torch.equal(model.pos_embed, expected)
    with pytest.raises(ValueError, match=r"position must have 1 \+ 4 \* 4 rows"):
        package.load_weights(model, state, "deit", (4, 4))


def test_a_table_that_fills_no_square_is_left_to_strict_loading(package):
    model = ours(package, side=OTHER_SIDE)
    odd = torch.randn(1, 1 + 5 * 7, 48)
    assert package.fit_positions(odd, model) is odd
    with pytest.raises(ValueError, match=r"pos_embed \(1, 36, 48\), not \(1, 401, 48"):
        package.load_weights(model, model.state_dict() | {"pos_embed": odd})
    stretched = package.fit_positions(odd, model, old_grid_size=(5, 7))
    assert stretched.shape == model.pos_embed.shape


def test_an_unknown_policy_is_refused(package):
    model = ours(package, side=OTHER_SIDE)
    with pytest.raises(ValueError, match="policy must be one of"):
        package.load_weights(model, ours(package).state_dict(), "nearest")


# Heads


@pytest.mark.parametrize("distilled", ["", "DeiT"])
def test_a_head_for_other_classes_stays_fresh_and_is_named(package, distilled):
    theirs = ours(package, distilled)
    model = ours(package, distilled, num_classes=5)
    before = {key: t.clone() for key, t in model.state_dict().items()}
    (said,) = package.load_weights(model, theirs.state_dict())
    heads = [key for key in before if key.startswith("head")]
    assert said == (
        f"{', '.join(heads)} are newly initialised (model 5 classes, checkpoint 7):"
        " train them before use"
    )
    for key, tensor in model.state_dict().items():
        expected = before if key in heads else theirs.state_dict()
        assert torch.equal(tensor, expected[key])


def test_a_file_without_a_head_leaves_a_fresh_one(package):
    theirs = drawn(PEERS["transformers"]())
    model = ours(package)
    (said,) = load(package, model, theirs.vit.state_dict())
    assert said.startswith("head.weight, head.bias are newly initialised")
    assert "(model 7 classes, checkpoint 0)" in said


def test_features_need_no_head(package):
    model = ours(package, num_classes=0)
    assert package.load_weights(model, ours(package).state_dict()) == []
    images = images_of(SIDE)
    assert answer(model, images).shape == (2, 48)


def test_a_layer_before_the_head_is_left_out_with_it_and_never_without(package):
    fc = {
        "pre_logits.fc.weight": torch.ones(48, 48),
        "pre_logits.fc.bias": torch.ones(48),
    }
    state = ours(package).state_dict() | fc
    assert len(package.load_weights(ours(package, num_classes=5), state)) == 1
    assert package.load_weights(ours(package, num_classes=0), state) == []
    with pytest.raises(ValueError, match="unexpected: pre_logits"):
        package.load_weights(ours(package), state)


def test_one_head_of_two_is_not_enough(package):
    state = ours(package, "DeiT").state_dict()
    del state["head_dist.weight"]
    with pytest.raises(ValueError, match=r"missing: head_dist\.weight"):
        package.load_weights(ours(package, "DeiT"), state)


# What does not fit


def test_what_does_not_fit_is_named_and_the_model_stays_as_it_was(package):
    model, state = ours(package), ours(package).state_dict()
    before = {key: t.clone() for key, t in model.state_dict().items()}
    del state["blocks.1.norm2.bias"]
    state["blocks.2.norm1.bias"] = torch.ones(48)
    state["patch_embed.proj.weight"] = torch.ones(48, 3, 4, 4)
    with pytest.raises(ValueError, match="the weights do not fit") as raised:
        package.load_weights(model, state)
    for words in (
        "missing: blocks.1.norm2.bias;",
        "unexpected: blocks.2.norm1.bias;",
        "of a different shape: patch_embed.proj.weight (48, 3, 4, 4), "
        "not (48, 3, 8, 8);",
        "build the model that these weights were made for, or get a file that is not",
    ):
        assert words in str(raised.value)
    assert all(torch.equal(before[key], t) for key, t in model.state_dict().items())


@pytest.mark.parametrize("peer", ["torchvision", "transformers", "wrapped"])
def test_names_that_were_not_converted_are_sent_to_convert_state_dict(package, peer):
    if peer == "wrapped":
        state = {f"module.{k}": t for k, t in ours(package).state_dict().items()}
    else:
        state = PEERS[peer]().state_dict()
    with pytest.raises(ValueError, match="the weights do not fit") as raised:
        package.load_weights(ours(package), state)
    assert "convert them first, with convert_state_dict" in str(raised.value)
    assert "damaged" not in str(raised.value)
    package.load_weights(ours(package), package.convert_state_dict(state))


def test_no_other_refused_file_is_sent_to_convert_state_dict(package):
    state = ours(package, depth=4).state_dict()
    for bad in (state, {"net.0.weight": torch.ones(48)}, {}):
        with pytest.raises(ValueError, match="the weights do not fit") as raised:
            package.load_weights(ours(package), bad)
        assert "convert_state_dict" not in str(raised.value)


def test_many_names_are_cut_and_counted(package):
    state = ours(package, depth=4).state_dict()
    with pytest.raises(ValueError, match=r"unexpected: blocks\.2.* and 16 more"):
        package.load_weights(ours(package), state)


@pytest.mark.parametrize(
    ("theirs", "model", "words"),
    [
        ({"naming": "DeiT"}, {}, "unexpected: dist_token, head_dist"),
        ({}, {"naming": "DeiT"}, "missing: dist_token"),
        ({"embed_dim": 24}, {}, r"cls_token \(1, 1, 24\), not \(1, 1, 48\)"),
        ({"pool": "mean"}, {}, "missing: cls_token"),
        ({"qkv_bias": False}, {}, r"missing: blocks\.0\.attn\.qkv\.bias"),
        ({}, {"position": "none"}, "unexpected: pos_embed"),
    ],
)
def test_weights_of_another_model_are_refused(package, theirs, model, words):
    with pytest.raises(ValueError, match=words):
        package.load_weights(
            ours(package, **model), ours(package, **theirs).state_dict()
        )


def test_a_vit_pytorch_checkpoint_is_refused_with_the_reason(package):
    from vit_pytorch import ViT

    sizes = {"image_size": 32, "patch_size": 8, "num_classes": 7, "dim": 48}
    theirs = ViT(**sizes, depth=1, heads=3, mlp_dim=192)
    with pytest.raises(ValueError, match=r"vit-pytorch .* normalises patches"):
        package.convert_state_dict(theirs.state_dict())


def test_an_unknown_naming_is_refused(package):
    with pytest.raises(ValueError, match=r"naming must be one of \['timm'.*'keras'"):
        package.convert_state_dict({}, "keras")


def test_keys_that_nobody_knows_are_named(package):
    state = ours(package).state_dict() | {"blocks.0.ls1.gamma": torch.ones(48)}
    words = r"not in the naming 'timm': blocks\.0\.ls1\.gamma \(1 of 33 keys\)"
    with pytest.raises(ValueError, match=words):
        package.convert_state_dict(state)
    resnet = {f"layer1.{i}.conv1.weight": torch.ones(1) for i in range(9)}
    with pytest.raises(ValueError, match=r"no naming of .*layer1\.7.* and 1 more$"):
        package.convert_state_dict(resnet)


def test_a_naming_that_is_not_the_file_s_is_refused(package):
    with pytest.raises(ValueError, match="not in the naming 'jax'"):
        package.convert_state_dict(torchvision_vit().state_dict(), "jax")


def test_queries_without_keys_are_refused(package):
    state = drawn(PEERS["transformers"]()).state_dict()
    for letter in "qkv":
        lacking = {
            key: tensor
            for key, tensor in state.items()
            if f"layers.1.attention.{letter}_proj.bias" not in key
        }
        words = rf"belong together, but there is no blocks\.1\.attn\.{letter}\.bias"
        with pytest.raises(ValueError, match=words):
            package.convert_state_dict(lacking)


# The proof that these tests can fail


def keys_before_queries(state):
    for key in [key for key in state if "attn.qkv" in key]:
        q, k, v = state[key].chunk(3)
        state[key] = torch.cat([k, q, v])


def norms_exchanged(state):
    for key in [key for key in state if "norm1" in key]:
        other = key.replace("norm1", "norm2")
        state[key], state[other] = state[other], state[key]


def projection_turned(state):
    for key in [key for key in state if key.endswith("attn.proj.weight")]:
        state[key] = state[key].T.contiguous()


def kernel_turned(state):
    kernel = state["patch_embed.proj.weight"]
    state["patch_embed.proj.weight"] = kernel.transpose(2, 3).contiguous()


@pytest.mark.parametrize(
    "mistake",
    [keys_before_queries, norms_exchanged, projection_turned, kernel_turned],
    ids=lambda mistake: mistake.__name__,
)
def test_a_mistake_is_seen(package, mistake):
    theirs, model = drawn(PEERS["transformers"]()), ours(package)
    state = package.convert_state_dict(theirs.state_dict())
    mistake(state)
    package.load_weights(model, state)
    images = images_of(SIDE)
    assert distance(logits(model, images), logits(theirs, images)) > 100 * TOLERANCE


def test_another_activation_is_seen(package):
    theirs, model = drawn(timm_vit()), ours(package)
    load(package, model, theirs.state_dict())
    for block in theirs.blocks:
        block.mlp.act = nn.GELU(approximate="tanh")
    images = images_of(SIDE)
    assert distance(logits(model, images), logits(theirs, images)) > 2 * TOLERANCE
