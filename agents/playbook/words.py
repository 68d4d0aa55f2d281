"""The words that tell what a class is about. Only `labels.py` reads them; singular, lower case."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ORIENTATION = _words(
    "orientation orient oriented rotation rotated rotate rot angle angled degree degrees deg azimuth yaw heading bearing "
    "direction clockwise counterclockwise anticlockwise ccw cw upright inverted upside flipped unflipped mirrored facing "
    "chirality handedness tilt tilted slant slanted upwards downwards leftward rightward leftwards rightwards"
)
SIDES = _words(
    "left right up down north south east west horizontal vertical diagonal arrow turn forward backward portrait landscape "
    "lh rh lhs rhs"
)
OPPOSITES = (
    ("left", "right"),
    ("up", "down"),
    ("north", "south"),
    ("east", "west"),
    ("horizontal", "vertical"),
    ("top", "bottom"),
    ("upright", "inverted"),
    ("clockwise", "counterclockwise"),
    ("normal", "mirrored"),
    ("original", "flipped"),
    ("l", "r"),
)
CHARACTERS = _words(
    "letter digit alphabet character glyph numeral kanji hiragana katakana hangul hanzi kana syllable vowel consonant "
    "uppercase lowercase handwriting handwritten word text font ocr number symbol rune plate captcha script cursive"
)
CHARACTER_SETS = _words(
    "mnist emnist kmnist qmnist usps svhn omniglot hijja notmnist kuzushiji chars74k hasy hasyv2 ahcd madbase cmaterdb "
    "devanagari arabic bengali bangla tamil telugu kannada malayalam gujarati cyrillic hebrew ethiopic amharic"
)
DOCUMENTS = _words(
    "document invoice receipt screenshot letterhead newspaper page form memo banknote currency card logo"
)
NUMBER_WORDS = _words("zero one two three four five six seven eight nine ten")
LETTER_NAMES = _words(
    # Greek
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi chi psi omega "
    # Arabic, Persian, Urdu
    "alif alef ba baa beh ta taa teh tha thaa theh jim jeem gim geem hah haa kha khaa khah dal daal thal dhal thaal ra raa reh "
    "za zaa zay zain zayn sin seen shin sheen sad saad dad daad zah ayn ain ghain ghayn gayn fa faa feh qaf qaaf kaf kaaf lam laam "
    "mim meem nun noon non ha heh waw waaw ya yaa yeh hamza pe che zhe gaf da lamalif "
    # Hebrew
    "aleph bet bayt gimel dalet he vav zayin het tet yod kaph lamed mem samekh pey tsadi tzadi qof resh tav "
    # Indic
    "ka kha ga gha nga cha chha ja jha nya tta ttha dda ddha nna tha dha na pa pha bha ma va sha ssa ksha tra gya jna "
    "aa ii uu ee ai oo au "
    # Kana
    "ki ku ke ko sa shi su se so chi tsu te to ni nu ne no hi fu ho mi me mo yu yo ri ru re ro wa wo"
)
HANDS = _words("asl sign signs gesture handsign fingerspelling finger thumb thumbs fist palm mudra")
TRAFFIC = _words("traffic roadsign speed limit yield roundabout chevron signpost junction overtaking")
CLOCKS = _words("clock oclock hour minute dial gauge meter")
FLAGS = _words("flag flags ensign")
POSITION = _words("position pos location quadrant corner centre center middle coordinate row column x y")
SIZES = _words("size small medium large big tiny huge scale near far distance short long narrow wide")
COUNTS = _words("count counts objects people persons single double triple pair crowd empty")
COLOURS = _words(
    "red green blue yellow orange purple pink brown black white grey gray cyan magenta violet colour color ripe unripe overripe"
)
LIGHT = _words(
    "sunny cloudy shine sunrise sunset foggy night day dawn dusk dark bright overexposed underexposed exposure lighting rain rainy"
)
MEDICAL = _words(
    "xray radiograph chest lung pneumonia ct mri ultrasound mammogram heart cardiomegaly effusion tumor tumour covid covid19 "
    "fundus retina retinopathy glaucoma glioma meningioma pituitary lesion oct cnv dme drusen fracture"
)
OVERHEAD = _words(
    "satellite aerial overhead orthophoto landuse landcover eurosat ucmerced resisc45 dota histology histopathology pathology "
    "microscopy microscope micrograph cell cells lymphocyte neutrophil eosinophil monocyte basophil erythrocyte platelet blastocyst "
    "mitosis nuclei nucleus stroma adipose mucosa epithelium plankton diatom pollen dermoscopy melanoma nevus keratosis "
    "galaxy nebula crater texture parasitized uninfected annualcrop permanentcrop herbaceousvegetation sealake"
)

_ANIMALS = (
    "animal bird airplane ant antelope ape badger bat bear beaver bee beetle bison boar bobcat buffalo butterfly camel cat caterpillar "
    "cattle chicken chimpanzee cow coyote crab crane crocodile crow deer dog dolphin donkey dove dragonfly duck eagle elephant elk "
    "ferret fish flamingo fly fox frog gazelle giraffe goat goldfish goose gorilla grasshopper hamster hare hawk hedgehog hen "
    "hippopotamus horse hummingbird hyena insect jaguar jellyfish kangaroo kitten koala ladybug lamb leopard lion lizard llama lobster "
    "lynx mammal monkey moose mosquito moth mouse octopus ostrich otter owl ox oyster panda parrot peacock pelican penguin pig pigeon "
    "porcupine possum puppy rabbit raccoon ram rat raven reindeer reptile rhinoceros robin rooster seal seahorse shark sheep shrew "
    "shrimp skunk sloth snail snake sparrow spider squid squirrel starfish swan tiger toad tortoise trout turkey turtle walrus wasp "
    "weasel whale wolf wolverine wombat woodpecker worm zebra poodle terrier retriever spaniel hound shepherd bulldog husky collie beagle"
)
_VEHICLES = (
    "aeroplane plane aircraft helicopter jet automobile car truck lorry bus van motorcycle motorbike bicycle bike scooter train tram "
    "boat ship ferry yacht canoe submarine tractor vehicle taxi ambulance pickup tank rocket suv sedan wagon minivan trailer"
)
_CLOTHES = (
    "shirt tshirt dress coat jacket hat cap shoe boot sneaker sandal trouser pants jeans shorts skirt blouse blazer hoodie sweater "
    "pullover cardigan longsleeve undershirt polo outwear outerwear suit tie sock glove scarf bag handbag backpack belt watch glasses "
    "sunglasses body swimwear bra underwear slipper heel tee vest kurta saree clothing garment"
)
_FOOD = (
    "apple apricot avocado banana beef beet berry blueberry bread broccoli burger cabbage cake carrot cauliflower cheese cherry chili "
    "chips chocolate coffee cookie corn cucumber cupcake curry dessert donut doughnut dumpling egg eggplant fig food fries fruit garlic "
    "grape guava hamburger hotdog icecream kiwi leek lemon lettuce lime mango meat melon milk mushroom noodle nut oat olive onion papaya "
    "pasta pastry peach peanut pear pepper pickle pie pineapple pizza plum pomegranate pork potato pumpkin radish ramen raspberry rice "
    "salad salmon sandwich sausage soup spaghetti spinach steak strawberry sushi taco tea tofu tomato tuna turnip vegetable waffle "
    "watermelon wine yogurt zucchini"
)
_PLANTS = (
    "plant tree flower leaf leaves rose tulip daisy dandelion sunflower lily orchid iris lotus poppy lavender bluebell crocus snowdrop "
    "buttercup cowslip pansy fern moss cactus bamboo oak maple pine palm willow birch grass weed seedling crop wheat maize cassava "
    "rust blight mildew mosaic scab healthy diseased bacterial"
)
_THINGS = (
    "bed book bottle bowl box broom bucket bulb cabinet camera can candle chair clock computer couch cup curtain desk door fork furniture "
    "hammer iron jar kettle key keyboard knife ladder lamp laptop mirror monitor mug napkin oven pan pen pencil phone piano pillow plate "
    "pot printer racket radio refrigerator ruler scissors screwdriver shelf sink sofa spoon stove table telephone television toaster "
    "toilet tool toothbrush toy tray tripod tv umbrella utensil vase violin guitar drum wallet wardrobe whisk wrench ball kite ski "
    "snowboard frisbee bench cutlery glass toothpick kitchenware cardboard metal paper plastic trash garbage rubbish recycling battery "
    "waste biological organic cloth clothes ceramic wood styrofoam tin cracked crack damaged defect"
)
_SCENES = (
    "airport alley bakery bar barn beach bedroom bridge building castle church city cloud cloudy coast desert dew farm field fire fog "
    "foggy forest frost garden glacier hail harbor highway hill house indoor island kitchen lake library lightning market meadow mountain "
    "museum ocean office outdoor park rain rainbow rainy restaurant river road rime sand sandstorm school sea shine shop sky skyscraper smog snow snowy "
    "stadium storm street subway sunny sunrise sunset temple tower tunnel valley village volcano water waterfall wave weather"
)
_PEOPLE = "person man woman boy girl child baby adult face male female people human smile happy sad angry surprised fear disgust neutral mask"

NATURAL = _words(" ".join((_ANIMALS, _VEHICLES, _CLOTHES, _FOOD, _PLANTS, _THINGS, _SCENES, _PEOPLE)))
