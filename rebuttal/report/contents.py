"""The content of the paper: its tables, charts and comparisons, each an entry that lists metrics by name.

Labels of rows and measures are written to the report's data files.
"""

from __future__ import annotations

from collections.abc import Sequence

from rebuttal.report.charts import Chart, DotChart, LabelNoiseChart, MetricNameChart
from rebuttal.report.claims import Claim
from rebuttal.report.comparisons import Contrast, TimeToFit, Trend
from rebuttal.report.gather import Run
from rebuttal.report.naming import dataset_name, labels_name
from rebuttal.report.plain import plain_charts, plain_tables
from rebuttal.report.tables import Grid, Levels, Table

EXPERIMENTS = {
    "baseline": "Fitting random labels",
    "two_stage": "Two-stage learning",
    "sample_efficiency": "How many inputs a student needs",
    "architectures": "Across architectures",
    "smoothness": "Smoothness",
    "frequency": "Frequency",
    "corruption": "From true to random labels",
    "random_walk": "The random walk",
    "toy": "Two-stage learning at small scale",
}
"""Headings, in the order of the paper. Other experiments follow them on the page."""

# Zhang et al. 2017, Table 1, without weight decay: training / test accuracy on the 50,000 training images of CIFAR-10.
ZHANG_IMAGES = 50_000
ZHANG_TABLE_1 = {
    ("512-512-512", "true labels"): "1.000 / 0.524",
    ("512-512-512", "random labels"): "1.000 / 0.105",
    ("512", "true labels"): "1.000 / 0.505",
    ("512", "random labels"): "0.993 / 0.106",
}

FUNCTIONS = {
    "random labels": "random_labels",
    "true labels": "true_labels",
    "untrained": "untrained",
    "linear": "linear",
    "Fourier features": "fourier",
    "nearest neighbour": "nearest_neighbour",
    "hash": "hash",
}

SMOOTHNESS = {
    "gradient of the margin, training": "margin_gradient_train_scaled",
    "gradient of the margin, test": "margin_gradient_test_scaled",
    "gradient of the margin, noise": "margin_gradient_noise_scaled",
    "Jacobian norm (Frobenius), test": "jacobian_frobenius_test_scaled",
    "Jacobian norm (spectral), test": "jacobian_spectral_test_scaled",
    "Jacobian norm of the probabilities, test": "softmax_jacobian_test",
    "Lipschitz constant, at least": "lipschitz_lower_scaled",
    "Lipschitz constant, at most": "lipschitz_upper_scaled",
    "l1 path norm (log10)": "path_norm_l1_log10_scaled",
    "l2 path norm (log10)": "path_norm_l2_log10_scaled",
    "variation over a step of 1": "variation_test_1_scaled",
    "variation over a step of 10": "variation_test_10_scaled",
    "answers that flip over a step of 1": "flips_test_1",
    "class changes per unit length": "class_changes_test",
    "linear regions per unit length": "region_changes_test",
    "total variation per unit length": "total_variation_test_scaled",
    "margin, test": "margin_test_scaled",
    "distance to the boundary, test": "boundary_test",
}

FREQUENCY = {
    "gradient: share of low frequencies": "gradient_low_share_test",
    "the same of white noise": "gradient_low_share_white",
    "gradient: low over high": "gradient_low_to_high_test",
    "gradient: centroid (cycles per pixel)": "gradient_centroid_test",
    "slices: share of low frequencies": "slice_low_share_test",
    "slices: centroid": "slice_centroid_test",
    "lines, random: centroid": "line_random_centroid_test",
    "lines, along the gradient: centroid": "line_gradient_centroid_test",
    "lines, low-pass: centroid": "line_low_pass_centroid_test",
    "lines, high-pass: centroid": "line_high_pass_centroid_test",
    "answers that flip, low Fourier waves": "fourier_flips_low",
    "answers that flip, high Fourier waves": "fourier_flips_high",
}

STUDENTS = {
    "student of classes": "student",
    "student of probabilities": "student_soft",
    "student of logits": "student_logit",
    "untrained teacher": "untrained_teacher",
    "nearest-neighbour teacher": "nearest_neighbour_teacher",
    "hash teacher": "hash_teacher",
    "linear teacher": "linear_teacher",
    "linear teacher, logits": "linear_teacher_logit",
    "independent teacher": "independent_teacher",
    "the same data, other initialisation": "own_data",
}

AGREEMENT = {"agreement": "agreement", "majority class": "majority_agreement", "kappa": "kappa"}


def zhang_accuracies(run: Run) -> str:
    """Return the accuracies in Zhang et al. for this network and these labels on the same images, or "" if there are
    none."""
    if dataset_name(run.config) != "cifar10" or run.metrics.get("fit/train_size") != ZHANG_IMAGES:
        return ""
    hidden = (run.config.get("model") or {}).get("hidden", [])
    return ZHANG_TABLE_1.get(("-".join(map(str, hidden)), labels_name(run.config)), "")


TABLES: tuple[Grid | Levels, ...] = (
    Levels(
        "baseline",
        "baseline",
        "Fitting true and random labels",
        {
            "training accuracy": "fit/train_accuracy",
            "test accuracy": "fit/test_accuracy",
            "epochs to fit": "fit/epochs_to_fit",
        },
        all_setups=True,
        text_columns={"Zhang et al. 2017, Table 1": zhang_accuracies},
    ),
    Grid(
        "two_stage",
        "two_stage",
        "Agreement of students with their teachers on new inputs",
        "student learns from",
        "{row}/{column}",
        STUDENTS,
        AGREEMENT,
        fitted=("teacher/train_accuracy",),
    ),
    Grid(
        "toy",
        "toy",
        "Agreement of students with their teachers on new inputs",
        "student learns from",
        "{row}/{column}",
        STUDENTS,
        AGREEMENT,
        fitted=("teacher/train_accuracy",),
    ),
    Grid(
        "sample_efficiency",
        "sample_efficiency",
        "New inputs that a student needs for a kappa of 0.5, by the n1 of its teacher",
        "n1",
        "sample_efficiency/{column}_for_kappa_0.5_{row}",
        {f"{n1:,}": str(n1) for n1 in (300, 1000, 3000, 5000, 10_000, 20_000, 50_000)},
        {"n2 needed": "n2", "n1 / n2": "ratio"},
    ),
    Grid(
        "architectures",
        "architectures",
        "Kappa by the teacher's and the student's architecture",
        "teacher",
        "architectures/{row}_{column}_kappa",
        {name: name for name in ("mlp", "vgg11", "resnet18")},
        {name: name for name in ("mlp", "vgg11", "resnet18")},
    ),
    Grid(
        "smoothness",
        "smoothness",
        "Smoothness, in units of the spread of the logits; networks that fit their labels, and null functions",
        "measure",
        "smoothness/{column}_{row}",
        SMOOTHNESS,
        FUNCTIONS,
        fitted=("random_labels/train_accuracy", "true_labels/train_accuracy"),
    ),
    Grid(
        "frequency",
        "frequency",
        "Frequency; networks that fit their labels, and null functions",
        "measure",
        "frequency/{column}_{row}",
        FREQUENCY,
        FUNCTIONS,
        fitted=("random_labels/train_accuracy", "true_labels/train_accuracy"),
    ),
    Levels(
        "corruption",
        "corruption",
        "What changes with the share of random labels",
        {
            "test accuracy": "fit/test_accuracy",
            "gap": "fit/generalization_gap",
            "steps to fit": "fit/steps_to_fit",
            "Jacobian norm": "smoothness/network_jacobian_frobenius_test_scaled",
            "variation over a step of 1": "smoothness/network_variation_test_1_scaled",
            "low-frequency share": "frequency/network_gradient_low_share_test",
        },
        fitted=("fit/train_accuracy",),
    ),
    Grid(
        "random_walk",
        "random_walk",
        "Kappa of students with their teachers",
        "teacher; student learns on",
        "{row}/{column}",
        {
            "walk; a fresh walk": "judge_student",
            "walk; noise": "judge_student_on_noise",
            "noise; noise": "judge_control_student",
            "noise; a walk": "judge_control_student_on_walk",
        },
        {
            "on the teacher's kind": "kappa",
            "walk's teacher, on noise": "kappa_noise",
            "noise's teacher, on the walk": "kappa_walk",
        },
    ),
    Grid(
        "random_walk_demand",
        "random_walk",
        "Lipschitz constants that the labels require, and those of the networks",
        "quantity",
        "{column}_{row}",
        {
            "smallest distance of differing labels": "demand_distance",
            "Lipschitz constant of one-hot answers": "demand_one_hot",
            "steepest secant of the network": "demand_secant",
            "its Lipschitz constant, at least": "lipschitz_lower",
            "its Lipschitz constant, at most": "lipschitz_upper",
        },
        {"walk": "steepness/walk", "noise": "control_steepness/noise"},
    ),
    Grid(
        "random_walk_time",
        "random_walk",
        "Time to fit",
        "network",
        "{row}/{column}",
        {"walk": "teacher", "noise": "control"},
        {"steps to fit": "steps_to_fit", "epochs to fit": "epochs_to_fit", "training accuracy": "train_accuracy"},
    ),
)

TABLE_CHARTS: tuple[DotChart, ...] = (
    *(
        DotChart(
            table,
            "How well students learn the function of their teacher.",
            {"agreement": ("agreement", "majority class"), "kappa (0: chance, 1: equal)": ("kappa",)},
            lines={"kappa (0: chance, 1: equal)": {"chance": 0.0}},
            claimed={"agreement": "student_agrees_student"},
        )
        for table in ("two_stage", "toy")
    ),
    DotChart(
        "smoothness",
        "The network trained on random labels, compared with null functions.",
        {
            "variation over a step of 1": ("variation over a step of 1",),
            "gradient of the margin": ("gradient of the margin, test",),
            "class changes per unit length": ("class changes per unit length",),
        },
        by_row=True,
        log=("variation over a step of 1", "gradient of the margin", "class changes per unit length"),
    ),
    DotChart(
        "frequency",
        "The network trained on random labels, compared with null functions.",
        {
            "gradient: share of low frequencies": (
                "gradient: share of low frequencies",
                "the same of white noise",
            ),
            "slices: share of low frequencies": ("slices: share of low frequencies",),
        },
        by_row=True,
    ),
)

RUN_CHARTS: tuple[LabelNoiseChart | MetricNameChart, ...] = (
    LabelNoiseChart(
        "corruption",
        "corruption",
        "What changes with the share of random labels.",
        {
            "test accuracy": "fit/test_accuracy",
            "steps to fit": "fit/steps_to_fit",
            "Jacobian norm": "smoothness/network_jacobian_frobenius_test_scaled",
            "low-frequency share": "frequency/network_gradient_low_share_test",
        },
        fitted=("fit/train_accuracy",),
    ),
    MetricNameChart(
        "sample_efficiency",
        "sample_efficiency",
        "Kappa against the number of new inputs; the thesis expects it to be high at n1 / 10.",
        "n2: new inputs labelled by the teacher",
        {"kappa": r"sample_efficiency/kappa_(?P<series>\d+)_(?P<x>\d+)"},
        series="n1 = {}",
        vertical=("n2 = n1 / 10", lambda n1: int(n1) / 10),
    ),
    MetricNameChart(
        "thinning",
        "random_walk",
        "From the walk to independent noise, keeping every k-th image.",
        "k: each k-th image of the walk",
        {
            "steps to fit": r"thinning/steps_to_fit_(?P<x>\d+)",
            "student's kappa": r"thinning/kappa_(?P<x>\d+)",
        },
        log_y=("steps to fit",),
    ),
)


CONTRASTS: tuple[Contrast, ...] = (
    *(
        Contrast(
            experiment,
            label,
            ("random labels", f"{experiment}/random_labels_{metric}"),
            ("true labels", f"{experiment}/true_labels_{metric}"),
            fitted=("random_labels/train_accuracy", "true_labels/train_accuracy"),
        )
        for experiment, measures in (("smoothness", SMOOTHNESS), ("frequency", FREQUENCY))
        for label, metric in measures.items()
    ),
    *(
        Contrast(
            "two_stage", f"kappa beside: {label}", ("student of classes", "student/kappa"), (label, f"{key}/kappa")
        )
        for label, key in STUDENTS.items()
        if key != "student"
    ),
    Contrast(
        "random_walk",
        "kappa on the teacher's kind of inputs",
        ("walk", "student/kappa"),
        ("noise", "control_student/kappa"),
        fitted=("teacher/train_accuracy", "control/train_accuracy"),
    ),
)

TIMES_TO_FIT: tuple[TimeToFit, ...] = (
    TimeToFit("baseline", "random labels", "true labels", "fit", "fit", label=labels_name),
    TimeToFit("random_walk", "walk", "noise", "teacher", "control"),
)

TRENDS: tuple[Trend, ...] = tuple(
    Trend("corruption", label, metric, along="fit/label_noise", fitted=("fit/train_accuracy",))
    for label, metric in {
        "test accuracy": "fit/test_accuracy",
        "generalization gap": "fit/generalization_gap",
        "steps to fit": "fit/steps_to_fit",
        **{label: f"smoothness/network_{metric}" for label, metric in SMOOTHNESS.items()},
        **{label: f"frequency/network_{metric}" for label, metric in FREQUENCY.items()},
    }.items()
)


def make_tables(runs: Sequence[Run]) -> list[Table]:
    """Return the tables in the order of the paper, then those of experiments that it does not have."""
    return [table for spec in TABLES for table in spec.tables(runs)] + plain_tables(runs, set(EXPERIMENTS))


def make_charts(runs: Sequence[Run], tables: Sequence[Table], claims: Sequence[Claim]) -> list[Chart]:
    """Return the charts in the order of the paper. Some are drawn from `tables`; `claims` give reference lines."""
    thresholds = {claim.id: claim.threshold for claim in claims}
    charts = [chart for spec in TABLE_CHARTS for chart in spec.charts(tables, thresholds)]
    charts += [chart for spec in RUN_CHARTS for chart in spec.charts(runs)]
    charts += plain_charts(runs, set(EXPERIMENTS))
    order = {experiment: i for i, experiment in enumerate(EXPERIMENTS)}
    return sorted(charts, key=lambda chart: order.get(chart.experiment, len(order)))
