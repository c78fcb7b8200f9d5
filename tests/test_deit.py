"""Lesson 9: two tokens, two heads, and a loss that asks a teacher."""

import copy
import importlib
import math
import os
import re
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import course_vit

quick = settings(max_examples=15)
close = {"atol": 1e-12, "rtol": 0}
POSITIONS = ["learned", "sinusoid", "sincos_2d", "none"]


def small(package, **options):
    """A small distilled model with an oblong grid of 2 x 3 patches, seed 0."""
    torch.manual_seed(0)
    sizes = {"img_size": (16, 24), "patch_size": 8, "num_classes": 5}
    sizes |= {"embed_dim": 12, "depth": 2, "num_heads": 3}
    return package.DistilledVisionTransformer(**sizes | options)


def random_images(b=4, **options):
    return torch.randn(b, 3, 16, 24, **options)


def teacher_with_statistics():
    """A convolution with a BatchNorm: it shows when it is in the wrong mode."""
    torch.manual_seed(3)
    conv = nn.Conv2d(3, 6, 3)
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(conv, nn.BatchNorm2d(6), pool, nn.Flatten(), nn.Linear(6, 5))


def logits(seed, b=4, k=5, **options):
    source = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(b, k, generator=source, **options)


# The model


@pytest.mark.parametrize("position", POSITIONS)
def test_every_variant_is_its_parts_in_order(package, position):
    model = small(package, position=position).double().eval()
    images = random_images(dtype=torch.float64)
    both = model.cls_token.expand(4, 1, 12), model.dist_token.expand(4, 1, 12)
    x = torch.cat([*both, model.patch_embed(images)], dim=1)
    if position != "none":
        assert model.pos_embed.shape == (1, 8, 12)
        x = x + model.pos_embed
    assert model.num_prefix_tokens == 2
    torch.testing.assert_close(model.embed(images), x, **close)
    for block in model.blocks:
        x = block(x)
    x = model.norm(x)
    torch.testing.assert_close(model.forward_features(images), x, **close)
    by_class, by_distillation = model.head(x[:, 0]), model.head_dist(x[:, 1])
    mean = (by_class + by_distillation) / 2
    torch.testing.assert_close(model(images), mean, **close)
    model.train()
    assert isinstance(model(images), tuple)
    torch.testing.assert_close(model(images), (by_class, by_distillation), **close)


def test_a_second_token_costs_a_row_a_token_and_a_head(package):
    sizes = {"img_size": (16, 24), "patch_size": 8, "num_classes": 5}
    sizes |= {"embed_dim": 12, "depth": 2, "num_heads": 3}
    counts = [
        sum(p.numel() for p in model.parameters())
        for model in (package.VisionTransformer(**sizes), small(package))
    ]
    assert counts[1] - counts[0] == 2 * 12 + (12 + 1) * 5


def test_no_classes_means_the_mean_of_two_features(package):
    model = small(package, num_classes=0).eval()
    images = random_images()
    tokens = model.forward_features(images)
    torch.testing.assert_close(model(images), tokens[:, :2].mean(dim=1))


def test_both_tokens_learn_and_start_from_the_law(package):
    model = small(package, embed_dim=192)
    for token in (model.cls_token, model.dist_token):
        assert 0.012 < token.std() < 0.028
    assert not torch.equal(model.cls_token, model.dist_token)
    by_class, by_distillation = model(random_images())
    (by_class.sum() + 2 * by_distillation.sum()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_every_weight_is_drawn_once(package, monkeypatch):
    drawn, draw = [], nn.init.trunc_normal_

    def noted(parameter, **options):
        drawn.append(parameter)
        return draw(parameter, **options)

    monkeypatch.setattr(nn.init, "trunc_normal_", noted)
    model = small(package)
    weights = {name for name, _ in model.named_parameters() if "norm" not in name}
    assert len(drawn) == len([name for name in weights if not name.endswith("bias")])


def test_a_copy_and_a_reload_answer_alike(package):
    model = small(package).eval()
    again = small(package, position="learned").eval()
    again.load_state_dict(copy.deepcopy(model).state_dict())
    images = random_images()
    assert torch.equal(model(images), again(images))


def test_the_compiled_model_gives_both_answers(package):
    model = small(package)
    images = random_images()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), model(images))
    model.eval()
    torch.testing.assert_close(compiled(images), model(images))


# Soft distillation


@quick
@given(seed=st.integers(0, 99), tau=st.floats(0.5, 9), k=st.integers(2, 7))
def test_kl_is_zero_for_equals_and_never_negative(package, seed, tau, k):
    student, teacher = logits(seed, k=k).double(), logits(seed + 1, k=k).double()
    soft = partial(package.soft_distillation, tau=tau)
    assert soft(student, student).abs() < 1e-9
    assert soft(student, student + 7).abs() < 1e-9
    assert soft(student, teacher) > 0


@quick
@given(seed=st.integers(0, 99), tau=st.floats(0.5, 9))
def test_it_is_the_sum_written_out(package, seed, tau):
    student, teacher = logits(seed).double(), logits(seed + 1).double()
    total = 0.0
    for row, taught in zip(student, teacher, strict=True):
        p = [math.exp(x / tau) for x in taught.tolist()]
        q = [math.exp(x / tau) for x in row.tolist()]
        p, q = ([x / sum(part) for x in part] for part in (p, q))
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    soft = partial(package.soft_distillation, student, teacher, tau)
    assert soft().item() == pytest.approx(total * tau**2 / 4, abs=1e-9)
    divided = total * tau**2 / 20
    assert soft(reduction="numel").item() == pytest.approx(divided, abs=1e-9)


def test_tau_squared_keeps_the_gradient_of_its_size(package):
    """For large tau the gradient is that of half the mean squared difference of
    logits: Hinton et al. 2015, eq. 4."""
    student, teacher = logits(0).double(), logits(1).double()
    student.requires_grad_()
    package.soft_distillation(student, teacher, tau=1e4).backward()
    centred = [x - x.mean(dim=-1, keepdim=True) for x in (student, teacher)]
    expected = (centred[0] - centred[1]).detach() / 5 / len(student)
    torch.testing.assert_close(student.grad, expected, atol=1e-4, rtol=0)


def test_the_teacher_is_the_target(package):
    """KL(teacher || student): classes that the teacher finds possible must count."""
    sure, torn = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    soft = partial(package.soft_distillation, tau=1.0)
    assert soft(sure, torn) > 3 > 1 > soft(torn, sure)


# The loss


def by_hand(outputs, labels, taught, kind, alpha, tau, smoothing):
    true = F.cross_entropy(outputs[0], labels, label_smoothing=smoothing)
    if kind == "hard":
        other = F.cross_entropy(outputs[1], taught.argmax(dim=-1))
    else:
        p, q = (taught / tau).softmax(-1), (outputs[1] / tau).softmax(-1)
        other = tau**2 * (p * (p / q).log()).sum(dim=-1).mean()
    return (1 - alpha) * true + alpha * other


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize(
    "options", [{}, {"alpha": 0.1, "tau": 2.0, "smoothing": 0.1}, {"alpha": 1.0}]
)
def test_the_loss_is_its_two_parts(package, kind, options):
    teacher = teacher_with_statistics().eval()
    images, labels = random_images(), torch.tensor([0, 4, 2, 2])
    outputs = logits(0), logits(1)
    loss = package.DistillationLoss(teacher, kind, **options)(images, outputs, labels)
    settings = {"alpha": 0.5, "tau": 3.0, "smoothing": 0.0} | options
    expected = by_hand(outputs, labels, teacher(images), kind, **settings)
    torch.testing.assert_close(loss, expected)


def test_numel_is_the_released_code(package):
    """The lines of DeiT's losses.py: the sum, times tau twice, by all numbers."""
    teacher, images, labels = logits(5), random_images(), torch.tensor([0, 4, 2, 2])
    outputs = logits(0), logits(1)
    options = {"kind": "soft", "alpha": 1.0, "tau": 2.0, "reduction": "numel"}
    loss = package.DistillationLoss(lambda _: teacher, **options)
    log_p, log_q = ((x / 2).log_softmax(dim=1) for x in (outputs[1], teacher))
    released = F.kl_div(log_p, log_q, reduction="sum", log_target=True) * 4 / 20
    torch.testing.assert_close(loss(images, outputs, labels), released)


def test_labels_may_be_mixed(package):
    """Mixup gives probabilities instead of class numbers."""
    images, labels = random_images(), torch.tensor([0, 4, 2, 2])
    loss = package.DistillationLoss(lambda _: logits(5))
    outputs = logits(0), logits(1)
    mixed = F.one_hot(labels, 5).float()
    expected = loss(images, outputs, labels)
    torch.testing.assert_close(loss(images, outputs, mixed), expected)


def test_the_teacher_stays_as_it_was(package):
    """Even if it is put in training mode: no statistics, no gradients."""
    teacher, student = teacher_with_statistics().train(), small(package)
    before = copy.deepcopy(teacher.state_dict())
    loss = package.DistillationLoss(teacher, "soft")
    batches = [(random_images(), torch.tensor([0, 4, 2, 2]))] * 2
    package.fit(student, batches, 2, loss=loss)
    for key, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_student_learns_what_the_teacher_says(package):
    """Labels train the class token, the teacher's decision trains the other token."""
    images, labels = random_images(8), torch.zeros(8, dtype=torch.long)
    taught = F.one_hot(torch.ones(8, dtype=torch.long), 5).float()
    student = small(package)
    loss = package.DistillationLoss(lambda _: taught)
    package.fit(student, [(images, labels)], 40, lr=1e-2, loss=loss)
    by_class, by_distillation = student.train()(images)
    assert (by_class.argmax(dim=-1) == 0).all()
    assert (by_distillation.argmax(dim=-1) == 1).all()


def test_each_token_hears_its_own_master(package):
    """The heads' gradients: labels reach only `head`, the teacher only `head_dist`."""
    student, images = small(package), random_images()
    labels = torch.tensor([0, 4, 2, 2])
    for alpha, deaf in ((0.0, student.head_dist), (1.0, student.head)):
        student.zero_grad()
        loss = package.DistillationLoss(lambda _: logits(5), alpha=alpha)
        loss(images, student(images), labels).backward()
        assert deaf.weight.grad.abs().max() == 0
        assert student.patch_embed.proj.weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_the_loss_in_bfloat16_is_near(package, kind):
    teacher, student = teacher_with_statistics(), small(package)
    images, labels = random_images(), torch.tensor([0, 4, 2, 2])
    loss = package.DistillationLoss(teacher, kind)
    exact = loss(images, student(images), labels)
    with torch.autocast(images.device.type, dtype=torch.bfloat16):
        value = loss(images, student(images), labels)
    torch.testing.assert_close(value.float(), exact, atol=0.05, rtol=0.05)
    value.backward()
    assert all(p.grad.isfinite().all() for p in student.parameters())


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_the_whole_step_compiles(package, kind):
    teacher, student = teacher_with_statistics(), small(package)
    images, labels = random_images(), torch.tensor([0, 4, 2, 2])
    loss = package.DistillationLoss(teacher, kind)

    def value(images, labels):
        return loss(images, student(images), labels)

    compiled = torch.compile(value, backend="aot_eager")
    torch.testing.assert_close(compiled(images, labels), value(images, labels))
    compiled(images, labels).backward()
    found = {name: p.grad.clone() for name, p in student.named_parameters()}
    student.zero_grad()
    value(images, labels).backward()
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)


def one_of_two_processes(rank, package_name, folder):
    """Half of the images for each process; DDP averages the gradients."""
    torch.set_num_threads(1)
    if sys.platform == "linux":  # elsewhere gloo looks up no name of the machine
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = distributed.FileStore(str(folder / "meet"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    package = importlib.import_module(package_name)
    student = DistributedDataParallel(small(package))
    torch.manual_seed(1)
    images, labels = random_images(), torch.tensor([0, 4, 2, 2])
    half = slice(rank, None, 2)
    loss = package.DistillationLoss(teacher_with_statistics(), "soft")
    for _ in range(2):  # the second pass fails if a parameter had no gradient
        student.zero_grad()
        loss(images[half], student(images[half]), labels[half]).backward()
    if rank == 0:
        gradients = {name: p.grad for name, p in student.module.named_parameters()}
        torch.save(gradients, folder / "gradients.pt")
    store.set(f"{rank} is done", "")
    store.wait(["0 is done", "1 is done"])  # neither hangs up on the other
    os._exit(0)  # torch sometimes aborts while it takes its threads apart


def test_two_processes_find_the_gradient_of_one(package, tmp_path):
    if torch.get_default_device().type != "cpu":
        pytest.skip("two processes of one small machine")
    details = (package.__name__, tmp_path)
    torch.multiprocessing.spawn(one_of_two_processes, details, nprocs=2)
    student = small(package)
    torch.manual_seed(1)
    images, labels = random_images(), torch.tensor([0, 4, 2, 2])
    loss = package.DistillationLoss(teacher_with_statistics(), "soft")
    loss(images, student(images), labels).backward()
    of_two = torch.load(tmp_path / "gradients.pt", weights_only=True)
    for name, gradient in of_two.items():
        torch.testing.assert_close(gradient, student.get_parameter(name).grad)


# Images without a label


def test_an_image_without_a_label_teaches_the_class_token_nothing(package):
    outputs = logits(0).requires_grad_(), logits(1).requires_grad_()
    labels = torch.tensor([0, package.NO_LABEL, 2, package.NO_LABEL])
    said = logits(5)
    loss = package.DistillationLoss(lambda _: said, smoothing=0.1)
    value = loss(random_images(), outputs, labels)
    true = F.cross_entropy(outputs[0][::2], labels[::2], label_smoothing=0.1)
    taught = F.cross_entropy(outputs[1], said.argmax(dim=-1))
    torch.testing.assert_close(value, (true + taught) / 2)
    value.backward()
    assert (outputs[0].grad[1::2] == 0).all()
    assert (outputs[1].grad.abs().amax(dim=-1) > 0).all()


def test_without_any_label_only_the_teacher_is_heard(package):
    outputs, said = (logits(0).requires_grad_(), logits(1)), logits(5)
    loss = package.DistillationLoss(lambda _: said)
    value = loss(random_images(), outputs, torch.full((4,), package.NO_LABEL))
    expected = F.cross_entropy(outputs[1], said.argmax(dim=-1)) / 2
    torch.testing.assert_close(value, expected)
    value.backward()
    assert (outputs[0].grad == 0).all(), "not nan, and not None: DDP waits for it"


def test_the_largest_byte_is_a_label(package):
    """As a byte, -1 is 255, and it must still count as no label."""
    wide, labels = logits(0, k=256), torch.tensor([255, 0, 1, 2], dtype=torch.uint8)
    loss = package.labelled_cross_entropy(wide, labels)
    torch.testing.assert_close(loss, F.cross_entropy(wide, labels.long()))


# Teachers of other makes


def test_a_teacher_may_return_an_object_that_holds_the_logits(package):
    said, images, labels = logits(5), random_images(), torch.tensor([0, 4, 2, 2])
    plain = package.DistillationLoss(lambda _: said)
    wrapped = package.DistillationLoss(lambda _: SimpleNamespace(logits=said))
    outputs = logits(0), logits(1)
    assert wrapped(images, outputs, labels) == plain(images, outputs, labels)
    in_a_tuple = package.DistillationLoss(lambda _: (said,))
    with pytest.raises(TypeError, match=r"or an object with \.logits, got tuple"):
        in_a_tuple(images, outputs, labels)


def test_every_part_of_a_teacher_keeps_its_mode(package):
    teacher = teacher_with_statistics().train()
    teacher[1].eval()
    modes = [module.training for module in teacher.modules()]
    package.DistillationLoss(teacher).ask_teacher(random_images())
    assert [module.training for module in teacher.modules()] == modes
    with pytest.raises(RuntimeError):
        package.DistillationLoss(teacher).ask_teacher(random_images()[:, :2])
    assert [module.training for module in teacher.modules()] == modes


# Words for what cannot be done

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("option", "values", "rule"),
    [
        ("kind", ["none", None, 1], "hard or soft"),
        ("alpha", [1.5, -1, NAN, "1", None], "between 0 and 1"),
        ("smoothing", [-1, 1.1, NAN, True], "between 0 and 1"),
        ("tau", [-1, NAN, INF, "3", None], "between 0 and inf"),
        ("tau", [0, 0.0], "above 0"),
        ("reduction", ["nonsense", None, "sum"], "batchmean or numel"),
    ],
)
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_nonsense_is_refused_by_its_name(kind, option, values, rule):
    for value in values:
        options = {"kind": kind} | {option: value}
        message = f"{option} must be {rule}, got {re.escape(repr(value))}"
        with pytest.raises(ValueError, match=message):
            course_vit.DistillationLoss(lambda _: logits(5), **options)
        if option in ("tau", "reduction"):
            with pytest.raises(ValueError, match=message):
                course_vit.soft_distillation(logits(0), logits(1), **{option: value})


def test_a_teacher_that_cannot_be_asked_is_refused():
    for teacher in (None, "deit_tiny_patch16_224"):
        with pytest.raises(TypeError, match="a model or a function, got"):
            course_vit.DistillationLoss(teacher)


@pytest.mark.parametrize("outputs", [logits(0), (logits(0),), (logits(0),) * 3])
def test_anything_but_a_pair_of_answers_is_refused(package, outputs):
    loss = package.DistillationLoss(lambda _: logits(5))
    with pytest.raises(TypeError, match="pair of logits of a model in training mode"):
        loss(random_images(), outputs, torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (logits(5, k=7), r"teacher's logits \(4, 5\), got shape \(4, 7\)"),
        (logits(5, b=1), r"teacher's logits \(4, 5\), got shape \(1, 5\)"),
        (logits(5)[0], r"teacher's logits \(4, 5\), got shape \(5,\)"),
        (logits(5).argmax(-1), r"teacher's logits \(4, 5\), got shape \(4,\)"),
        (logits(5) / 0 * 0, "teacher's logits contain nan: look at the teacher alone"),
    ],
)
def test_logits_that_a_student_cannot_learn_from_are_refused(kind, teacher, message):
    loss = course_vit.DistillationLoss(lambda _: teacher, kind)
    labels = torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match=message):
        loss(random_images(), (logits(0), logits(1)), labels)
    with pytest.raises(ValueError, match=message):
        course_vit.soft_distillation(logits(1), teacher)


def test_a_student_without_images_is_refused():
    soft = course_vit.soft_distillation
    with pytest.raises(
        ValueError, match=r"student's logits \(b, k\), got shape \(5,\)"
    ):
        soft(logits(0)[0], logits(1)[0])
    with pytest.raises(ValueError, match="images must be a positive integer, got 0"):
        soft(logits(0, b=0), logits(1, b=0))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(4, 1, dtype=torch.long), r"labels \(4,\) of integers, got .*4, 1"),
        (torch.eye(5, dtype=torch.long)[:4], r"labels \(4,\) of integers, got .*4, 5"),
        (torch.zeros(4), r"labels \(4,\) of integers, got .* of torch.float32"),
        (torch.tensor([0, 1, 5, 2]), "labels from 0 to 4, got 5"),
        (torch.tensor([0, 1, -2, 2]), "labels from 0 to 4, got -2"),
    ],
)
def test_labels_of_a_wrong_form_are_refused(package, labels, message):
    loss = package.DistillationLoss(lambda _: logits(5))
    with pytest.raises(ValueError, match=message):
        loss(random_images(), (logits(0), logits(1)), labels)
