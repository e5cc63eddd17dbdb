"""What of the factors A and B travels, and what the server makes of the sum. It never needs more than sums.

| rule   | silos train  | silos send          | the server takes          | equal to                              |
|--------|--------------|---------------------|---------------------------|---------------------------------------|
| fedavg | A and B      | ΔA, ΔB              | their means               | mean(B)·mean(A), not the mean of B·A  |
| ffa    | B            | ΔB                  | its mean, A fixed         | the mean of B·A                       |
| rolora | B, A in turn | ΔB or ΔA            | its mean                  | the mean of B·A                       |
| fedsvd | B            | ΔB                  | its mean, then an SVD     | the mean of B·A, A's rows orthonormal |
| exact  | A and B      | two sketches of B·A | the mean of B·A, cut to r | its best approximation of rank r      |

FFA-LoRA: arXiv 2403.12313. RoLoRA: arXiv 2502.01755. FedSVD: arXiv 2505.12805. Two sketch passes: FedASK, arXiv
2507.09990.
"""

from fedcollm_secure.learning.factors.exact import ExactProducts
from fedcollm_secure.learning.factors.passes import Merged, Pass
from fedcollm_secure.learning.factors.rule import Deltas, Rule, make_rule

__all__ = ["Deltas", "ExactProducts", "Merged", "Pass", "Rule", "make_rule"]
