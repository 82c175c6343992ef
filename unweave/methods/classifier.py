"""`uw.classifier`: what only classifiers need: evidence for a class, blind spots, what fools the model."""

from unweave.methods.attribution_through import attribution_through as attribution_through
from unweave.methods.blind_spots import adversarial_prompts as adversarial_prompts
from unweave.methods.blind_spots import blind_spots as blind_spots
from unweave.methods.blind_spots import class_probability as class_probability
from unweave.methods.blind_spots import other_tokens as other_tokens
from unweave.methods.class_attribution import class_attribution as class_attribution
from unweave.methods.rebuilt_attention import rebuilt_attention as rebuilt_attention
