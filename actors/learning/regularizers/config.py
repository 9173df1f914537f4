"""How learning is kept from undoing what was learned before."""

from typing import Literal

from actors.learning.section import Section, setting

RegularizerKind = Literal["none", "ewc", "lwf", "der"]

_ANCHOR = "Rows between two versions that are held on to: the newest of them counts."


class EwcConfig(Section):
    strength: float = setting(100.0, "How strongly a weight that mattered is held where it was.", ge=0)
    decay: float = setting(0.9, "What is kept of its importance from one anchor to the next.", ge=0, le=1)
    anchor_rows: int = setting(10_000, _ANCHOR, unit="rows", ge=1)
    fisher_rows: int = setting(16, "Rows of each shard and round that tell which weights matter.", unit="rows", ge=1)


class LwfConfig(Section):
    strength: float = setting(1.0, "Weight of what the older version says beside the labels.", ge=0)
    temperature: float = setting(2.0, "Above 1 its less likely classes count for more.", gt=0)
    anchor_rows: int = setting(10_000, _ANCHOR, unit="rows", ge=1)


class DerConfig(Section):
    logits: float = setting(0.5, "Weight of the outputs that a replayed row was learned with.", ge=0)
    labels: float = setting(1.0, "Weight of the replayed rows' labels beside those of the new rows.", ge=0)


class RegularizationConfig(Section):
    ewc: EwcConfig = setting(EwcConfig, "Online elastic weight consolidation.")
    lwf: LwfConfig = setting(LwfConfig, "Learning without forgetting: an older version as a teacher.")
    der: DerConfig = setting(DerConfig, "Dark experience replay (DER++): remembered rows keep what the model said of them.")
