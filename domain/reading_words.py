"""The words by which people ask for listings, and the filters that they mean."""

from domain.amenities import LABELS
from domain.property import FurnishedStatus, ListingType, PropertyType
from domain.roles import UserRole

_SYNONYMS: dict[str, dict[str, str]] = {
    "property_type": {
        PropertyType.APARTMENT: "apartment|apartments|flat|flats|apt|apts|appartment|appartments|condo|condominium|falt"
        "|multistorey apartment|residential apartment|residential flat",
        PropertyType.HOUSE: "house|houses|independent house|independent houses|individual house|individual houses"
        "|independent home|makan|makaan|row house|row houses|bungalow|bunglow|independent floor|independent",
        PropertyType.VILLA: "villa|villas|row villa|independent villa|villament",
        PropertyType.PLOT: "plot|plots|open plot|open plots|land|lands|site|sites|residential plot|residential plots"
        "|residential land|villa plot|villa plots|house plot|agriculture land|agricultural land|farm land|farmland"
        "|commercial plot|commercial plots|commercial land|farm plot|farm plots|agri land|layout plot|hmda plot"
        "|dtcp plot",
        PropertyType.COMMERCIAL: "commercial|commercial property|commercial space|commercial building"
        "|commercial complex|commercial spaces",
        PropertyType.OFFICE: "office|offices|office space|office spaces|commercial office|coworking|co working space"
        "|commercial office space",
        PropertyType.SHOP: "shop|shops|showroom|showrooms|retail|retail space|retail shop|commercial shop",
        PropertyType.WAREHOUSE: "warehouse|warehouses|godown|godowns|ware house",
        PropertyType.FARMHOUSE: "farmhouse|farmhouses|farm house|farm houses",
        PropertyType.STUDIO: "studio|studios|studio apartment|studio apartments|studio flat",
    },
    "listing_type": {
        ListingType.RENT: "rent|for rent|on rent|to rent|rental|rentals|rented|renting|to let|tolet|to lease|lease"
        "|for lease|on lease|per month|a month|/ month|pm|p m|monthly|monthly rent|for rental|rent out"
        "|kiraya|kiraye|kiraye pe|kiraye par|kiraye ka",
        ListingType.SALE: "sale|for sale|on sale|buy|to buy|buying|purchase|for purchase|resale|sell|selling|for buying"
        "|to purchase|for resale",
        ListingType.PG: "pg|pgs|paying guest|paying guests|hostel|hostels|co living|coliving|pg for|pg accommodation",
    },
    "furnished_status": {
        FurnishedStatus.FURNISHED: "furnished|fully furnished|full furnished|fullyfurnished|well furnished|furnish"
        "|with furniture|full furniture",
        FurnishedStatus.SEMI_FURNISHED: "semi furnished|semi|semifurnished|semi - furnished|partly furnished"
        "|partially furnished|half furnished|semi furnish",
        FurnishedStatus.UNFURNISHED: "unfurnished|un furnished|un - furnished|non furnished|non - furnished"
        "|not furnished|without furniture|no furniture|unfurnish|bare shell",
    },
    "rera": {
        "true": "rera|rera approved|rera registered|rera certified|with rera|rera project|rera projects|rera approval"
        "|approved by rera|rera number|rera id|tg rera|ts rera|tsrera|rera approved project",
    },
    "posted_by": {
        UserRole.USER: "direct owner|by owner|from owner|owner only|owners only|posted by owner|direct from owner"
        "|owner property|owner listing|owner flats|by owners",
        UserRole.BUILDER: "by builder|from builder|posted by builder|direct builder|builder only",
        UserRole.AGENT: "by agent|from agent|posted by agent|by agents",
        f"{UserRole.USER},{UserRole.BUILDER}": "no broker|no brokers|no brokerage|no agent|no agents|without broker"
        "|without brokers|without brokerage|zero brokerage|0 brokerage",
    },
}
# `half` of `half furnished` is a number in Tokens.
_SYNONYMS["furnished_status"][FurnishedStatus.SEMI_FURNISHED] += "|0.5 furnished"

PHRASES: dict[tuple[str, ...], tuple[str, tuple[str, ...]]] = {
    tuple(phrase.split()): (field, tuple(value.split(",")))
    for field, values in _SYNONYMS.items()
    for value, phrases in values.items()
    for phrase in phrases.split("|")
}
"""The field and the values that a run of words means."""
PHRASES |= {tuple(phrase.split()): ("amenities", (label,)) for phrase, label in LABELS.items()}
PHRASES["semi", "-", "gated"] = PHRASES["semi", "-", "gated", "community"] = PHRASES["semi", "gated"]

NEGATIONS = frozenset({"no", "not", "non", "without", "except", "excluding", "avoid", "exclude"})

CITY = frozenset({"hyderabad", "hyd", "telangana", "india"})

_ASKING = (
    "a affordable all an and any are area around as at available be beside best budget by can cheap close cost "
    "find for from get ghar give good have having hi home homes i immediate immediately in is it located location "
    "looking lopu me my near nearby need next nice of on only opp opposite or place please price priced properties "
    "property range required requirement residential rs search searching show side somewhere that the this to "
    "urgent urgently want wanted we where with within"
)
FILLERS = CITY | set(_ASKING.split())
"""Words that ask for nothing in particular."""

_OF_QUANTITIES = (
    "acre acres bathroom bathrooms bedroom bedrooms bhk crore crores east face facing floor floors ground gunta guntas "
    "lakh lakhs least minimum maximum most north south square sqft than thousand west years yards"
)
_OF_LISTINGS = (
    "airport college construction corner feet highway hospital luxury main metro move new old rate ready road school "
    "security station under"
)
ORDINARY = FILLERS | NEGATIONS | {word for phrase in PHRASES for word in phrase}
ORDINARY |= set(f"{_OF_QUANTITIES} {_OF_LISTINGS}".split())
"""Words that name no locality by themselves."""

CORRECT = {"hyderabad"} | {word for word in ORDINARY - FILLERS - NEGATIONS if len(word) >= 5}
"""What misspelled words are corrected to: long enough that few other words are near."""
