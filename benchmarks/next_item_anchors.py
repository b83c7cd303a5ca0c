"""What is published of next-item prediction under these protocols, and what is aimed at."""

# data -> lines to print beside ours: TARGETS section 1
ANCHORS = {
    "beauty_sequences": (
        "seen out: SASRec, full cross-entropy R@10 .0974 N@10 .0588 (its own order of ties);"
        " eSASRec .0928/.0523; HSTU recalculated .0788/.0439; gate .092/.053, target .105/.063",
        "all: ActionPiece .0775/.0424; TIGER .0648/.0384; target .090/.052",
    ),
    "sports_and_outdoors_sequences": (
        "seen out: SASRec, full cross-entropy .0563/.0329; eSASRec .0560/.0323; sampled"
        " .0569/.0314; gate .055/.032, target .062/.036",
        "all: ActionPiece .0500/.0264; TIGER .0400/.0225",
    ),
    "ml1m_sasrec_sequences": (
        "seen out: SASRec, full cross-entropy .3207/.1858; gSASRec .3003/.1726; BERT4Rec"
        " .2843/.1537; gate .305/.175, target .330/.195",
    ),
    "diginetica_sessions": ("all: not below item neighbours, HR@20 and MRR@20",),
    "retailrocket_sessions": ("all: not below item neighbours, HR@20 and MRR@20",),
}
