"""A classifier for tests of training, from the weights of a configuration."""

from classify_training.config import TrainConfig
from classify_training.data.plan import Plan
from classify_training.model.classifier import Classifier, build_classifier


def build(plan: Plan, config: TrainConfig, policy: str = "float32") -> Classifier:
    return build_classifier(len(plan.class_names), 32, config.fit.weights, policy=policy)
