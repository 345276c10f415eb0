"""Queries as people type them, each with what they want."""

from tests.relevance.judged import CRORE, LAKH, SQUARE_YARD, Want

FLAT, VILLA, HOUSE, PLOT, OFFICE, STUDIO = (
    (kind,) for kind in ("APARTMENT", "VILLA", "HOUSE", "PLOT", "OFFICE", "STUDIO")
)

QUERIES: dict[str, Want] = {
    "2 bhk gachibowli under 1 cr": Want(location="Gachibowli", bedrooms=(2, 2), most=1 * CRORE, listing="SALE"),
    "3 bhk flat kondapur": Want(location="Kondapur", types=FLAT, bedrooms=(3, 3)),
    "villa near hitech city 4000 sft": Want(location="Hitech City", types=VILLA, area=4000),
    "flat for rent kondapur 25k furnished": Want(
        location="Kondapur", types=FLAT, listing="RENT", most=25_000, furnished="FURNISHED"
    ),
    "plot 200 gaj shamshabad": Want(location="Shamshabad", types=PLOT, area=200 * SQUARE_YARD),
    "between 60 and 80 lakhs bachupally east facing": Want(
        location="Bachupally", least=60 * LAKH, most=80 * LAKH, facing="EAST"
    ),
    "villas in tellapur": Want(location="Tellapur", types=VILLA),
    "independent house for sale uppal": Want(location="Uppal", types=HOUSE, listing="SALE"),
    "office space madhapur rent": Want(location="Madhapur", types=OFFICE, listing="RENT"),
    "studio gachibowli": Want(location="Gachibowli", types=STUDIO),
    "apartments in ameerpet": Want(location="Ameerpet", types=FLAT),
    "house in meerpet": Want(location="Meerpet", types=HOUSE),
    "lingampally 2bhk": Want(location="Lingampally", bedrooms=(2, 2)),
    "bagh lingampally flat": Want(location="Bagh Lingampally", types=FLAT),
    "4 bhk jubilee hills": Want(location="Jubilee Hills", bedrooms=(4, 4)),
    "4+ bhk banjara hills villa": Want(location="Banjara Hills", types=VILLA, bedrooms=(4, 9)),
    "flats below 50 lakhs in lb nagar": Want(location="LB Nagar", types=FLAT, listing="SALE", most=50 * LAKH),
    "plots kompally": Want(location="Kompally", types=PLOT),
    "open plot in meerpet under 20 lakhs": Want(location="Meerpet", types=PLOT, most=20 * LAKH),
    "semi furnished 2 bhk rent manikonda": Want(
        location="Manikonda", listing="RENT", bedrooms=(2, 2), furnished="SEMI_FURNISHED"
    ),
    "furnished flat begumpet": Want(location="Begumpet", types=FLAT, furnished="FURNISHED"),
    "unfurnished house kukatpally": Want(location="Kukatpally", types=HOUSE, furnished="UNFURNISHED"),
    "lake view apartment": Want(types=FLAT, traits=("lake view",)),
    "lake view villa kokapet": Want(location="Kokapet", types=VILLA, traits=("lake view",)),
    "penthouse jubilee hills": Want(location="Jubilee Hills", traits=("penthouse",)),
    "penthouse with terrace": Want(traits=("penthouse",)),
    "duplex house": Want(types=HOUSE, traits=("duplex",)),
    "duplex villa narsingi": Want(location="Narsingi", types=VILLA, traits=("duplex",)),
    "pet friendly apartments": Want(types=FLAT, traits=("pet friendly",)),
    "pet friendly flat for rent gachibowli": Want(
        location="Gachibowli", types=FLAT, listing="RENT", traits=("pet friendly",)
    ),
    "bachelors flat madhapur rent": Want(location="Madhapur", types=FLAT, listing="RENT", traits=("bachelors",)),
    "flat near metro miyapur": Want(location="Miyapur", types=FLAT, traits=("metro",)),
    "near metro station": Want(traits=("metro",)),
    "ready to move 3 bhk": Want(bedrooms=(3, 3), traits=("ready to move",)),
    "ready to move flats financial district": Want(
        location="Financial District", types=FLAT, traits=("ready to move",)
    ),
    "under construction villas": Want(types=VILLA, traits=("under construction",)),
    "vastu house east facing": Want(types=HOUSE, facing="EAST", traits=("vastu",)),
    "corner plot": Want(types=PLOT, traits=("corner",)),
    "corner plot kompally": Want(location="Kompally", types=PLOT, traits=("corner",)),
    "modular kitchen 2 bhk rent": Want(listing="RENT", bedrooms=(2, 2), traits=("modular kitchen",)),
    "flat with servant room": Want(types=FLAT, traits=("servant room",)),
    "villa with private garden": Want(types=VILLA, traits=("garden",)),
    "near international school": Want(traits=("school",)),
    "plots near airport": Want(types=PLOT, traits=("airport",)),
    "lotus meadows": Want(project="Lotus Meadows"),
    "silver oak residency 3 bhk": Want(project="Silver Oak Residency", bedrooms=(3, 3)),
    "aurora heights rent": Want(project="Aurora Heights", listing="RENT"),
    "golden leaf villas": Want(project="Golden Leaf Villas"),
    "pearl lakeside 2bhk": Want(project="Pearl Lakeside", bedrooms=(2, 2)),
    "orchid gardens kondapur": Want(project="Orchid Gardens", location="Kondapur"),
    "gachibwli 3 bhk": Want(location="Gachibowli", bedrooms=(3, 3)),
    "flats in kukatpaly": Want(location="Kukatpally", types=FLAT),
    "vila in kondapur": Want(location="Kondapur", types=VILLA),
    "jubilee hils apartment": Want(location="Jubilee Hills", types=FLAT),
    "penthose": Want(traits=("penthouse",)),
    "silver oak residancy": Want(project="Silver Oak Residency"),
    "apartmant with lake veiw": Want(types=FLAT, traits=("lake view",)),
    "hitec city flat": Want(location="Hitech City", types=FLAT),
    "hi-tech city 2 bhk": Want(location="Hitech City", bedrooms=(2, 2)),
    "l b nagar house": Want(location="LB Nagar", types=HOUSE),
    "nanakram guda flat": Want(location="Nanakramguda", types=FLAT),
    "flat with swimming pool gachibowli": Want(location="Gachibowli", types=FLAT, amenities=("Swimming Pool",)),
    "gymnasium and clubhouse flat kokapet": Want(location="Kokapet", types=FLAT, amenities=("Gymnasium", "Clubhouse")),
    "3 bhk with covered parking somajiguda": Want(
        location="Somajiguda", bedrooms=(3, 3), amenities=("Covered Parking",)
    ),
    "2 bhk rent under 20k": Want(listing="RENT", bedrooms=(2, 2), most=20_000),
    "house under 1 crore": Want(types=HOUSE, listing="SALE", most=1 * CRORE),
    "villa above 3 cr": Want(types=VILLA, listing="SALE", least=3 * CRORE),
    "north east facing villa": Want(types=VILLA, facing="NORTH_EAST"),
    "1500 sqft flat kondapur": Want(location="Kondapur", types=FLAT, area=1500),
    "1 bhk": Want(bedrooms=(1, 1)),
    "gachibowli": Want(location="Gachibowli"),
    "3bhk": Want(bedrooms=(3, 3)),
}
