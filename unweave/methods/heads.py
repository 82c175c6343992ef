"""`uw.heads`: what single heads do: where they look, what they copy, which replace others, and their types."""

from unweave.methods.backup import backup_heads as backup_heads
from unweave.methods.backup import knockout_attribution as knockout_attribution
from unweave.methods.copying import copying_scores as copying_scores
from unweave.methods.head_scores import head_scores as head_scores
from unweave.methods.head_types import HeadTypeThresholds as HeadTypeThresholds
from unweave.methods.head_types import classify_heads as classify_heads
from unweave.methods.position_token import position_token as position_token
from unweave.methods.role_attention import attention_contribution as attention_contribution
from unweave.methods.role_attention import role_attention as role_attention
