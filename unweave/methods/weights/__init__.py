"""`uw.weights`: what is read off the weights: QK and OV circuits, composition of heads, copying eigenvalues."""

from unweave.methods.norm_scales import norm_scales as norm_scales
from unweave.methods.weights.composition import composition_scores as composition_scores
from unweave.methods.weights.composition_circuits import k_composition as k_composition
from unweave.methods.weights.composition_circuits import mean_query as mean_query
from unweave.methods.weights.composition_circuits import v_composition as v_composition
from unweave.methods.weights.copying_eigenvalues import copying_eigenvalues as copying_eigenvalues
from unweave.methods.weights.full_circuits import ov_circuit as ov_circuit
from unweave.methods.weights.full_circuits import qk_circuit as qk_circuit
from unweave.methods.weights.full_circuits import top_1_accuracy as top_1_accuracy
from unweave.methods.weights.head_matrices import ov_matrices as ov_matrices
from unweave.methods.weights.head_matrices import qk_matrices as qk_matrices
from unweave.models.factored import FactoredMatrix as FactoredMatrix
