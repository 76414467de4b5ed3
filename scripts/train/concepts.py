"""The concepts of the demo model: which emoji, and what a caption calls them.

Each line is an emojibase label, optionally "= caption noun". Several emoji may
share a noun (all hearts are "heart"): then the colour word tells them apart,
and a caption without it is ambiguous, which is what gives a negative prompt
something to remove.
"""

from __future__ import annotations

CONCEPTS = """
cat | dog | fox | lion | tiger | tiger face | cat face | horse | unicorn | zebra | deer | cow | pig | ewe = sheep
giraffe | elephant | mouse | rabbit | bear | koala | panda | monkey | rooster | baby chick = chick | penguin
duck | owl | flamingo | parrot | bird | frog | crocodile | turtle | dragon | T-Rex = dinosaur | whale | dolphin
fish | tropical fish | shark | octopus | crab | snail | butterfly | honeybee = bee | lady beetle = ladybug
rose | tulip | sunflower | evergreen tree = pine tree | deciduous tree = tree | palm tree | cactus
potted plant | maple leaf | mushroom
grapes | watermelon | tangerine = orange | lemon | banana | pineapple | red apple = apple | green apple = apple
pear | peach | cherries | strawberry | blueberries | kiwi fruit = kiwi | tomato | avocado | carrot
ear of corn = corn | hot pepper = chili pepper | broccoli | bread | croissant | cheese wedge = cheese | hamburger
french fries | pizza | hot dog | taco | egg | ice cream | doughnut = donut | cookie | birthday cake | cupcake
lollipop | hot beverage = cup of coffee | beer mug | teapot
mountain | volcano | house | castle | church | tent | locomotive | bus | fire engine = fire truck
police car | automobile = car | delivery truck = truck | tractor | racing car | motor scooter = scooter
bicycle | sailboat | ship | airplane | helicopter | rocket | flying saucer = ufo | anchor
alarm clock | crescent moon = moon | sun | star | cloud | rainbow | umbrella | high voltage = lightning bolt
snowflake | snowman | fire | droplet = water drop | ringed planet = planet | jack-o-lantern = pumpkin
Christmas tree | balloon | wrapped gift = gift | trophy | soccer ball | basketball | teddy bear | kite
glasses | t-shirt | jeans | dress | scarf | backpack | handbag | crown | top hat | ring | gem stone = gem
guitar | violin | trumpet | drum | musical keyboard = piano | bell | microphone | headphone = headphones | camera
television | laptop | telephone | light bulb | candle | green book = book | blue book = book
orange book = book | key | hammer | axe | scissors | pencil | shield | bomb | magnet | chair | envelope
red heart = heart | orange heart = heart | yellow heart = heart | green heart = heart | blue heart = heart
purple heart = heart | pink heart = heart | broken heart | grinning face = smiley
smiling face with sunglasses = smiley with sunglasses | crying face = crying smiley | angry face = angry smiley
smiling face with heart-eyes = smiley with heart eyes | skull | ghost | alien | robot
"""

# Concepts of one main saturated hue: these also get hue-rotated copies, so that a
# colour word means the colour and not the object.
RECOLOURED = """
apple | car | balloon | t-shirt | rose | tulip | butterfly | fish | umbrella | dress | scarf | star | bus
tractor | racing car | truck | scooter | guitar | gem | octopus | mushroom | backpack | handbag | crab | book | tent
flamingo | parrot | teapot | whale | kite | dragon | pear | maple leaf | house | sailboat | rocket | dinosaur
bell | chair | gift | frog | bird | snail
"""

# Short trainings: `--concepts core` takes these, `--concepts wide` all but the rest below.
CORE = """
apple | car | heart | balloon | t-shirt | butterfly | house | castle | book | rose | star | tulip | strawberry
cat | dog | cat face | tiger face | penguin | owl | fox | panda | frog | fish | pizza | hamburger | donut
ice cream | banana | watermelon | rocket | airplane | sailboat | bus | guitar | tree | sunflower | mushroom | sun
moon | cloud | umbrella | crown | smiley | fire | gift | ghost
"""
ONLY_IN_ALL = """
tiger | zebra | deer | sheep | mouse | rooster | parrot | crocodile | turtle | tropical fish | snail | ladybug
potted plant | pine tree | maple leaf | orange | pineapple | peach | kiwi | avocado | chili pepper | broccoli
croissant | french fries | hot dog | taco | egg | cookie | cupcake | lollipop | beer mug | mountain | volcano | church
tent | locomotive | fire truck | police car | truck | tractor | scooter | bicycle | ship | helicopter | anchor
alarm clock | planet | Christmas tree | trophy | basketball | kite | jeans | scarf | handbag | ring | trumpet | drum
piano | microphone | headphones | camera | television | laptop | telephone | scissors | hammer | axe | pencil | shield
bomb | magnet | chair | envelope | smiley with heart eyes | skull | alien | racing car | monkey | koala | cow | bell
violin | corn | bread | cheese | candle | glasses | top hat | dolphin | shark | giraffe | pig | blueberries
crying smiley | angry smiley | bird | dress | bear | birthday cake | key | backpack | duck | horse
"""


def _cells(text: str) -> list[str]:
    return [cell.strip() for cell in text.replace("\n", "|").split("|") if cell.strip()]


def recoloured_nouns() -> frozenset[str]:
    """Caption nouns whose pictures get hue-rotated copies."""
    return frozenset(_cells(RECOLOURED))


def chosen_nouns(choice: str) -> frozenset[str]:
    """Caption nouns of a training: "core", "wide" or "all"."""
    nouns, core, rest = frozenset(concept_nouns().values()), frozenset(_cells(CORE)), frozenset(_cells(ONLY_IN_ALL))
    unknown = (core | rest) - nouns
    if unknown or core & rest:
        raise ValueError(f"not a concept, or in two lists: {sorted(unknown | core & rest)}")
    return {"core": core, "wide": nouns - rest, "all": nouns}[choice]


def concept_nouns() -> dict[str, str]:
    """Map of emojibase label to caption noun, in the order of the list."""
    nouns: dict[str, str] = {}
    for cell in _cells(CONCEPTS):
        label, _, noun = (part.strip() for part in cell.partition("="))
        if label in nouns:
            raise ValueError(f"concept listed twice: {label}")
        nouns[label] = noun or label
    unknown = recoloured_nouns() - set(nouns.values())
    if unknown:
        raise ValueError(f"recoloured but not a concept: {sorted(unknown)}")
    return nouns
