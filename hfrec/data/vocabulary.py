"""The words of the synthetic shop in six languages.

Nothing but the meaning ties them together: an encoder that reads only one of them misses the other five.
"""

from __future__ import annotations

from dataclasses import dataclass

STYLES = ("rustic", "modern", "playful", "elegant", "sporty", "classic")


@dataclass(frozen=True)
class Language:
    """One language's words.

    Attributes:
        code: ISO 639-1.
        style_first: whether the style stands before the noun.
        colour_phrase: how a title goes on with the colour.
        articles: for each of `drawing.KINDS`: noun, gender (m, f or n), what it is good for.
        adjectives: for each of `STYLES`, by gender.
        sentences: two for each of `STYLES`, one after the other.
        colours: for each of `drawing.COLOURS`, as `colour_phrase` needs it.
        patterns: for each of `drawing.PATTERNS`.
        closings: sentences that say nothing in particular.
    """

    code: str
    style_first: bool
    colour_phrase: str
    articles: tuple[tuple[str, str, str], ...]
    adjectives: tuple[dict[str, str], ...]
    sentences: tuple[str, ...]
    colours: tuple[str, ...]
    patterns: tuple[str, ...]
    closings: tuple[str, ...]

    def title(self, kind: int, style: int | None, colour: int | None, pattern: int | None = None) -> str:
        """An article's name; what is `None` goes unsaid."""
        noun, gender, _ = self.articles[kind]
        words = [noun]
        if style is not None:
            words.insert(0 if self.style_first else 1, self.adjectives[style][gender])
        name = " ".join(words)
        if colour is not None:
            name += self.colour_phrase.format(self.colours[colour])
        if pattern is not None:
            name += f", {self.patterns[pattern]}"
        return name[0].upper() + name[1:]


def _same(word: str) -> dict[str, str]:
    return {"m": word, "f": word, "n": word}


def _pair(masculine: str, feminine: str) -> dict[str, str]:
    return {"m": masculine, "f": feminine}


def _german(stem: str) -> dict[str, str]:
    return {"m": f"{stem}er", "f": f"{stem}e", "n": f"{stem}es"}


ENGLISH = Language(
    code="en",
    style_first=True,
    colour_phrase=" in {}",
    articles=(
        ("mug", "n", "Holds a generous coffee and keeps it warm."),
        ("teapot", "n", "Pours without dripping and serves four cups."),
        ("vase", "n", "Made for a fresh bunch from the garden."),
        ("table lamp", "n", "Gives a soft light for long evenings."),
        ("alarm clock", "n", "Gets you out of bed on time, every morning."),
        ("chair", "n", "A comfortable seat at the kitchen table."),
        ("cushion", "n", "Turns any sofa into a place to nap."),
        ("handbag", "n", "Room for keys, phone and a good book."),
        ("lace-up shoe", "n", "Walks well in town and on gravel paths."),
        ("hat", "n", "Keeps the sun out of your eyes."),
        ("shirt", "n", "Breathable cotton with a button placket."),
        ("umbrella", "n", "Opens at the press of a button and keeps you dry."),
        ("kite", "n", "Rises in the lightest breeze by the sea."),
        ("sock", "n", "Warm feet all through the winter."),
    ),
    adjectives=(
        _same("rustic"),
        _same("modern"),
        _same("playful"),
        _same("elegant"),
        _same("sporty"),
        _same("classic"),
    ),
    sentences=(
        "Made by hand, with the charm of an old farmhouse.",
        "Rough and honest, as if from the village.",
        "Clean lines and nothing too much.",
        "A contemporary design, reduced to the essential.",
        "Puts a smile on every face.",
        "Cheerful, for big and small children.",
        "Refined down to the last detail.",
        "A noble piece for special occasions.",
        "Light, sturdy and always on the move.",
        "For active people who never sit still.",
        "Timeless, and never out of fashion.",
        "Traditional, the way your grandparents knew it.",
    ),
    colours=("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown"),
    patterns=(
        "without a pattern",
        "with stripes",
        "with dots",
        "with checks",
        "with zigzags",
        "with flowers",
    ),
    closings=(
        "A lovely present.",
        "Easy to clean.",
        "Delivered in a few days.",
        "A favourite of our customers.",
    ),
)

GERMAN = Language(
    code="de",
    style_first=True,
    colour_phrase=" in {}",
    articles=(
        ("Tasse", "f", "Fasst einen großen Kaffee und hält ihn warm."),
        ("Teekanne", "f", "Gießt, ohne zu tropfen, und reicht für vier Tassen."),
        ("Vase", "f", "Gemacht für einen frischen Strauß aus dem Garten."),
        ("Tischlampe", "f", "Spendet weiches Licht für lange Abende."),
        ("Weckuhr", "f", "Bringt Sie jeden Morgen pünktlich aus dem Bett."),
        ("Stuhl", "m", "Ein bequemer Platz am Küchentisch."),
        ("Kissen", "n", "Macht aus jedem Sofa einen Ort zum Träumen."),
        ("Handtasche", "f", "Platz für Schlüssel, Geldbeutel und ein gutes Buch."),
        ("Schnürschuh", "m", "Läuft gut in der Stadt und auf Kieswegen."),
        ("Hut", "m", "Hält die Sonne von den Augen fern."),
        ("Hemd", "n", "Atmungsaktive Baumwolle mit Knopfleiste."),
        ("Regenschirm", "m", "Öffnet sich auf Knopfdruck und hält trocken."),
        ("Drachen", "m", "Steigt schon bei leichter Brise am Meer."),
        ("Socke", "f", "Warme Füße den ganzen Winter lang."),
    ),
    adjectives=(
        _german("rustikal"),
        _german("modern"),
        _german("verspielt"),
        _german("elegant"),
        _german("sportlich"),
        _german("klassisch"),
    ),
    sentences=(
        "Von Hand gefertigt, mit dem Reiz eines alten Bauernhofs.",
        "Rau und ehrlich, wie vom Dorf.",
        "Klare Linien und nichts zu viel.",
        "Zeitgemäße Gestaltung, auf das Wesentliche reduziert.",
        "Zaubert ein Lächeln auf jedes Gesicht.",
        "Fröhlich, für große und kleine Kinder.",
        "Fein bis ins letzte Detail.",
        "Ein edles Stück für besondere Anlässe.",
        "Leicht, robust und immer in Bewegung.",
        "Für aktive Menschen, die nie stillsitzen.",
        "Zeitlos und nie aus der Mode.",
        "Traditionell, wie schon bei den Großeltern.",
    ),
    colours=("Rot", "Orange", "Gelb", "Grün", "Blau", "Lila", "Rosa", "Braun"),
    patterns=("ohne Muster", "mit Streifen", "mit Punkten", "mit Karos", "mit Zickzackmuster", "mit Blumen"),
    closings=(
        "Ein schönes Geschenk.",
        "Leicht zu reinigen.",
        "In wenigen Tagen bei Ihnen.",
        "Bei unseren Kunden beliebt.",
    ),
)

FRENCH = Language(
    code="fr",
    style_first=False,
    colour_phrase=", coloris {}",
    articles=(
        ("tasse", "f", "Contient un grand café et le garde au chaud."),
        ("théière", "f", "Verse sans goutter et sert quatre tasses."),
        ("vase", "m", "Fait pour un bouquet frais du jardin."),
        ("lampe de table", "f", "Une lumière douce pour les longues soirées."),
        ("réveil", "m", "Vous tire du lit à l'heure, chaque matin."),
        ("chaise", "f", "Une place confortable à la table de la cuisine."),
        ("coussin", "m", "Fait de chaque canapé un lieu de sieste."),
        ("sac à main", "m", "De la place pour les clés et un bon livre."),
        ("chaussure à lacets", "f", "Marche bien en ville et sur les sentiers."),
        ("chapeau", "m", "Protège les yeux du soleil."),
        ("chemise", "f", "Du coton léger, fermé par des boutons."),
        ("parapluie", "m", "S'ouvre d'une pression et garde au sec."),
        ("cerf-volant", "m", "S'élève à la moindre brise au bord de la mer."),
        ("chaussette", "f", "Les pieds au chaud tout l'hiver."),
    ),
    adjectives=(
        _same("rustique"),
        _same("moderne"),
        _same("ludique"),
        _pair("élégant", "élégante"),
        _pair("sportif", "sportive"),
        _same("classique"),
    ),
    sentences=(
        "Un travail fait main, avec le charme d'une vieille ferme.",
        "Une simplicité sincère, comme au village.",
        "Des lignes nettes et rien de trop.",
        "Un dessin d'aujourd'hui, réduit à l'essentiel.",
        "De quoi faire sourire tout le monde.",
        "De la joie pour les grands et les petits enfants.",
        "Le raffinement jusque dans le moindre détail.",
        "Une belle pièce pour les grandes occasions.",
        "Légèreté et solidité, toujours en mouvement.",
        "Pour ceux qui bougent et ne tiennent pas en place.",
        "Un style intemporel et jamais démodé.",
        "Dans la tradition, comme chez nos grands-parents.",
    ),
    colours=("rouge", "orange", "jaune", "vert", "bleu", "violet", "rose", "marron"),
    patterns=("sans motif", "à rayures", "à pois", "à carreaux", "à zigzags", "à fleurs"),
    closings=(
        "Un joli cadeau.",
        "Facile à nettoyer.",
        "Livraison en quelques jours.",
        "Nos clients en raffolent.",
    ),
)

SPANISH = Language(
    code="es",
    style_first=False,
    colour_phrase=" en color {}",
    articles=(
        ("taza", "f", "Para un café grande que se mantiene caliente."),
        ("tetera", "f", "Sirve cuatro tazas sin gotear."),
        ("jarrón", "m", "Hecho para un ramo fresco del jardín."),
        ("lámpara de mesa", "f", "Una luz suave para las noches largas."),
        ("despertador", "m", "Te saca de la cama a tiempo cada mañana."),
        ("silla", "f", "Un asiento cómodo en la mesa de la cocina."),
        ("cojín", "m", "Convierte cualquier sofá en un lugar de siesta."),
        ("bolso", "m", "Espacio para las llaves, el monedero y un buen libro."),
        ("zapato de cordones", "m", "Camina bien por la ciudad y por senderos."),
        ("sombrero", "m", "Protege los ojos del sol."),
        ("camisa", "f", "Algodón transpirable con botones."),
        ("paraguas", "m", "Se abre con un botón y te mantiene seco."),
        ("cometa", "f", "Se eleva con la brisa más ligera junto al mar."),
        ("calcetín", "m", "Pies calientes durante todo el invierno."),
    ),
    adjectives=(
        _pair("rústico", "rústica"),
        _pair("moderno", "moderna"),
        _pair("divertido", "divertida"),
        _same("elegante"),
        _pair("deportivo", "deportiva"),
        _pair("clásico", "clásica"),
    ),
    sentences=(
        "Un trabajo hecho a mano, con el encanto de una vieja granja.",
        "Sencillez sincera, como en el pueblo.",
        "Líneas limpias y nada de más.",
        "Un diseño actual, reducido a lo esencial.",
        "Saca una sonrisa a todo el mundo.",
        "Alegría para niños grandes y pequeños.",
        "Refinamiento hasta el último detalle.",
        "Una pieza noble para ocasiones especiales.",
        "Ligereza y resistencia, siempre en movimiento.",
        "Para gente activa que nunca se queda quieta.",
        "Un estilo atemporal que nunca pasa de moda.",
        "Según la tradición, como en casa de los abuelos.",
    ),
    colours=("rojo", "naranja", "amarillo", "verde", "azul", "morado", "rosa", "marrón"),
    patterns=("sin estampado", "con rayas", "con lunares", "con cuadros", "con zigzags", "con flores"),
    closings=(
        "Un bonito regalo.",
        "Fácil de limpiar.",
        "Entrega en pocos días.",
        "A nuestros clientes les encanta.",
    ),
)

ITALIAN = Language(
    code="it",
    style_first=False,
    colour_phrase=", colore {}",
    articles=(
        ("tazza", "f", "Per un caffè abbondante che resta caldo."),
        ("teiera", "f", "Versa senza gocciolare e serve quattro tazze."),
        ("vaso", "m", "Fatto per un mazzo fresco dal giardino."),
        ("lampada da tavolo", "f", "Una luce morbida per le lunghe serate."),
        ("sveglia", "f", "Ti fa alzare in orario ogni mattina."),
        ("sedia", "f", "Un posto comodo al tavolo della cucina."),
        ("cuscino", "m", "Fa di ogni divano un luogo di riposo."),
        ("borsa", "f", "Spazio per chiavi, portafoglio e un buon libro."),
        ("scarpa con lacci", "f", "Cammina bene in città e sui sentieri."),
        ("cappello", "m", "Protegge gli occhi dal sole."),
        ("camicia", "f", "Cotone traspirante con bottoni."),
        ("ombrello", "m", "Si apre con un pulsante e tiene all'asciutto."),
        ("aquilone", "m", "Si alza con la brezza più leggera in riva al mare."),
        ("calzino", "m", "Piedi caldi per tutto l'inverno."),
    ),
    adjectives=(
        _pair("rustico", "rustica"),
        _pair("moderno", "moderna"),
        _pair("giocoso", "giocosa"),
        _same("elegante"),
        _pair("sportivo", "sportiva"),
        _pair("classico", "classica"),
    ),
    sentences=(
        "Un lavoro fatto a mano, con il fascino di una vecchia cascina.",
        "Semplicità sincera, come in paese.",
        "Linee pulite e niente di troppo.",
        "Un disegno attuale, ridotto all'essenziale.",
        "Fa sorridere tutti quanti.",
        "Allegria per bambini grandi e piccoli.",
        "Raffinatezza fin nel minimo dettaglio.",
        "Un pezzo nobile per le occasioni speciali.",
        "Leggerezza e robustezza, sempre in movimento.",
        "Per persone attive che non stanno mai ferme.",
        "Uno stile senza tempo, mai fuori moda.",
        "Secondo la tradizione, come dai nonni.",
    ),
    colours=("rosso", "arancione", "giallo", "verde", "blu", "viola", "rosa", "marrone"),
    patterns=("senza motivi", "a righe", "a pois", "a quadri", "a zigzag", "a fiori"),
    closings=(
        "Un bel regalo.",
        "Facile da pulire.",
        "Consegna in pochi giorni.",
        "Piace molto ai nostri clienti.",
    ),
)

RUSSIAN = Language(
    code="ru",
    style_first=False,
    colour_phrase=", цвет {}",
    articles=(
        ("кружка", "f", "Вмещает большой кофе и хранит тепло."),
        ("заварочный чайник", "m", "Наливает без капель и рассчитан на четыре чашки."),
        ("ваза", "f", "Для свежего букета из сада."),
        ("настольная лампа", "f", "Мягкий свет для долгих вечеров."),
        ("будильник", "m", "Поднимет вас вовремя каждое утро."),
        ("стул", "m", "Удобное место за кухонным столом."),
        ("подушка", "f", "Превратит любой диван в место для отдыха."),
        ("сумка", "f", "Поместятся ключи, кошелёк и хорошая книга."),
        ("ботинок на шнурках", "m", "Удобно ходить по городу и по тропинкам."),
        ("шляпа", "f", "Защищает глаза от солнца."),
        ("рубашка", "f", "Дышащий хлопок, застёжка на пуговицах."),
        ("зонт", "m", "Открывается нажатием кнопки и спасает от дождя."),
        ("воздушный змей", "m", "Поднимается у моря при самом лёгком ветре."),
        ("носок", "m", "Тёплые ноги всю зиму."),
    ),
    adjectives=(
        _same("в деревенском стиле"),
        _same("в современном стиле"),
        _same("в игривом стиле"),
        _same("в элегантном стиле"),
        _same("в спортивном стиле"),
        _same("в классическом стиле"),
    ),
    sentences=(
        "Ручная работа с очарованием старой избы.",
        "Просто и честно, как в деревне.",
        "Чистые линии и ничего лишнего.",
        "Актуальный дизайн, только самое главное.",
        "Вызывает улыбку у каждого.",
        "Весело для больших и маленьких детей.",
        "Изысканность до последней детали.",
        "Благородная вещь для особых случаев.",
        "Легко, прочно и всегда в движении.",
        "Для активных людей, которые не сидят на месте.",
        "Вне времени и всегда в моде.",
        "По традиции, как у бабушки с дедушкой.",
    ),
    colours=("красный", "оранжевый", "жёлтый", "зелёный", "синий", "фиолетовый", "розовый", "коричневый"),
    patterns=("без узора", "в полоску", "в горошек", "в клетку", "с зигзагами", "в цветочек"),
    closings=(
        "Прекрасный подарок.",
        "Легко чистить.",
        "Доставка за несколько дней.",
        "Нравится нашим покупателям.",
    ),
)

LANGUAGES = {language.code: language for language in (ENGLISH, GERMAN, FRENCH, SPANISH, ITALIAN, RUSSIAN)}
