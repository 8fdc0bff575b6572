"""The catalogue: entries of language tasks, and those of `entries_items` behind them.

Licences are as found beside the data unless they say "as widely stated". Where a description says
that rows contain slurs, do not print them without need.
"""

from trustml.data.catalogue import Entry
from trustml.data.entries_items import ENTRIES as ITEM_ENTRIES

_DEV_ONLY = (
    "train and valid are nine and one tenth of the publisher's dev part, divided by a hash of "
)
_HASHED = "the publisher gives one part; train, valid and test are 80, 10 and 10 % by a hash of "
_NO_VALID = "valid is a tenth of the publisher's train part, divided by a hash of "

_ENTRIES = (
    Entry(
        name="ag_news",
        title="AG News, the published test part",
        task="classify",
        description="News in four classes: title and description",
        sizes=(6_088, 776, 736),
        unit="article",
        licence="research and other non-commercial use",
        citation="Zhang, Zhao, LeCun: Character-level Convolutional Networks for Text "
        "Classification, 2015",
        split=_HASHED + "the row",
        extra=(("train", "train.csv"),),
    ),
    Entry(
        name="clinc150",
        title="CLINC150",
        task="classify",
        description="Queries to an assistant: 150 intents in ten domains, and out of scope",
        sizes=(15_100, 3_100, 5_500),
        unit="query",
        licence="CC BY 3.0",
        citation="Larson et al.: An Evaluation Dataset for Intent Classification and Out-of-Scope "
        "Prediction, 2019",
    ),
    Entry(
        name="hatexplain",
        title="HateXplain",
        task="classify",
        description="Posts: hate speech, offensive or normal; groups are the targets. SLURS",
        sizes=(15_383, 1_922, 1_924),
        unit="post",
        licence="MIT",
        citation="Mathew et al.: HateXplain: A Benchmark Dataset for Explainable Hate Speech "
        "Detection, 2021",
        refused="the publisher's repository has no file with the rows at this commit; the layout "
        "was joined from several copies",
    ),
    Entry(
        name="davidson_hate",
        title="Hate and offensive tweets of Davidson et al.",
        task="classify",
        description="Tweets: hate speech, offensive or neither. SLURS",
        sizes=(19_860, 2_475, 2_448),
        unit="tweet",
        licence="MIT",
        citation="Davidson et al.: Automated Hate Speech Detection and the Problem of Offensive "
        "Language, 2017",
        split=_HASHED + "the tweet",
    ),
    Entry(
        name="wnut17",
        title="WNUT 2017 emerging entities",
        task="tag",
        description="Rare and new entities of six kinds in user-generated text",
        sizes=(3_394, 1_009, 1_287),
        unit="sentence",
        licence="CC BY 4.0",
        citation="Derczynski et al.: Results of the WNUT2017 Shared Task on Novel and Emerging "
        "Entity Recognition, 2017",
    ),
    Entry(
        name="snips_slots",
        title="SNIPS, slots alone",
        task="tag",
        description="Requests to a voice assistant: 39 slots",
        sizes=(13_084, 700, 700),
        unit="utterance",
        licence="CC0 1.0",
        citation="Coucke et al.: Snips Voice Platform, 2018; split of Goo et al., 2018",
        folder="snips",
    ),
    Entry(
        name="snips",
        title="SNIPS, split of SlotGated",
        task="nlu",
        description="Requests to a voice assistant: 7 intents and 39 slots",
        sizes=(13_084, 700, 700),
        unit="utterance",
        licence="CC0 1.0",
        citation="Coucke et al.: Snips Voice Platform, 2018; split of Goo et al., 2018",
    ),
    Entry(
        name="hwu64",
        title="HWU64, fold 1 of 10",
        task="nlu",
        description="Requests to a home assistant: 64 intents and 54 slots",
        sizes=(8_990, 970, 1_076),
        unit="utterance",
        licence="CC BY 4.0",
        citation="Liu et al.: Benchmarking Natural Language Understanding Services for building "
        "Conversational Agents, 2019",
        split=_NO_VALID + "the tokens",
    ),
    Entry(
        name="xquad_en",
        title="XQuAD, English",
        task="qa",
        description="Questions on paragraphs of Wikipedia, from SQuAD v1.1",
        sizes=(988, 109, 93),
        unit="question",
        owner_kind="paragraph",
        licence="CC BY-SA 4.0",
        citation="Artetxe, Ruder, Yogatama: On the Cross-lingual Transferability of Monolingual "
        "Representations, 2020",
        split=_HASHED + "the paragraph",
    ),
    Entry(
        name="wikitext2",
        title="WikiText-2, the published valid and test parts",
        task="lm",
        description="Good articles of Wikipedia, tokenised",
        sizes=(1_759, 94, 2_192),
        unit="paragraph",
        owner_kind="article",
        licence="CC BY-SA, as widely stated",
        citation="Merity et al.: Pointer Sentinel Mixture Models, 2016",
        split="train and valid are nine and one tenth of the publisher's valid part, divided by "
        "a hash of the article's title and first paragraph",
        extra=(("train", "train.txt"),),
    ),
    Entry(
        name="tinyshakespeare",
        title="Tiny Shakespeare",
        task="lm",
        description="Speeches of plays by Shakespeare, as one file",
        sizes=(5_998, 662, 437),
        unit="speech",
        owner_kind="speaker",
        licence="public domain",
        citation="Karpathy: The Unreasonable Effectiveness of Recurrent Neural Networks, 2015",
        split=_HASHED + "the speaker's name",
    ),
    Entry(
        name="shakespeare_roles",
        title="Shakespeare by speaking role",
        task="lm",
        description="Speeches of all plays by Shakespeare with their role: natural users",
        sizes=(20_297, 3_091, 3_106),
        unit="speech",
        owner_kind="role",
        licence="public domain",
        citation="plays of William Shakespeare",
        split=_HASHED + "play and role",
        refused="its rows were cut from one page a play, and the cut is not reproduced here",
    ),
    Entry(
        name="e2e_nlg",
        title="E2E NLG, the published dev and test parts",
        task="seq2seq",
        description="Restaurants: a sentence for a meaning representation",
        sizes=(4_261, 411, 4_693),
        unit="reference",
        owner_kind="meaning representation",
        licence="CC BY-SA 4.0",
        citation="Novikova, Dusek, Rieser: The E2E Dataset: New Challenges for End-to-End "
        "Generation, 2017",
        split=_DEV_ONLY + "the meaning representation",
        extra=(("train", "trainset.csv"),),
    ),
    Entry(
        name="dialogsum",
        title="DialogSum, the published dev and test parts",
        task="seq2seq",
        description="Summaries of everyday dialogues; three for each of the test part",
        sizes=(449, 51, 500),
        unit="dialogue",
        licence="CC BY-NC-SA 4.0: non-commercial",
        citation="Chen et al.: DialogSum: A Real-Life Scenario Dialogue Summarization Dataset, "
        "2021",
        split=_DEV_ONLY + "the dialogue",
        extra=(("train", "train.jsonl"),),
    ),
    Entry(
        name="scan",
        title="SCAN, simple split",
        task="seq2seq",
        description="Commands into actions, generated by a grammar: nobody's rows",
        sizes=(15_023, 1_705, 4_182),
        unit="command",
        licence="BSD",
        citation="Lake, Baroni: Generalization without Systematicity, 2018",
        split=_NO_VALID + "the command",
    ),
)

CATALOGUE = {entry.name: entry for entry in (*_ENTRIES, *ITEM_ENTRIES)}
