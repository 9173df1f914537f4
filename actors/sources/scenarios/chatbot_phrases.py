"""What customers of a shop write, by intent. Each line of an intent is a way of saying it, which comes up in its turn."""

PHRASES: dict[str, tuple[tuple[str, ...], ...]] = {
    "track_order": (
        ("where is my order", "when will my package arrive", "track my shipment please"),
        ("parcel still mia", "any eta on the box", "courier ghosted me"),
        ("drop not dropped yet", "wen delivery", "map shows nothing moving"),
        ("driver dot frozen again", "locker code never came", "still waiting on the van"),
    ),
    "refund": (
        ("i want my money back", "please refund me", "how do i get a refund"),
        ("reverse the charge pls", "gimme my cash back", "need a reimbursement asap"),
        ("undo my payment", "send the coins home", "void it and pay me out"),
        ("money return button is gone", "cashback the whole thing", "unspend this for me"),
    ),
    "cancel": (
        ("cancel my order", "i changed my mind about the purchase", "stop the shipment"),
        ("kill that order", "nvm dont send it", "abort the checkout thing"),
        ("yeet the order", "scrap what i bought", "pull it before it ships"),
        ("unbuy it", "take it off the conveyor", "hard no on that purchase"),
    ),
    "login": (
        ("i forgot my password", "cannot log in to my account", "reset my password"),
        ("locked out of my profile", "the sign in loop is back", "my pw is dead"),
        ("face unlock rejects me", "passkey broke", "2fa code never lands"),
        ("magic link expired", "app kicked me out", "who moved the login"),
    ),
    "invoice": (
        ("i need an invoice", "send me the receipt", "where can i download my bill"),
        ("got a pdf of the purchase", "vat paper for my boss", "need the paperwork"),
        ("expense app wants proof", "qr receipt missing", "slip for accounting"),
        ("e-bill xml where", "tax doc plz", "finance bot asks for a statement"),
    ),
    "damaged": (
        ("the item arrived broken", "my product is damaged", "the screen is cracked"),
        ("came in pieces", "box looks like it lost a fight", "dead on arrival"),
        ("it is cooked", "rattles like a maraca", "shattered on unboxing"),
        ("bricked out of the box", "hinge gave up day one", "totally busted unit"),
    ),
    "warranty": (
        ("is this covered by the warranty", "how long is the guarantee", "my device stopped working after a year"),
        ("can you fix it for free", "repair under cover or nah", "it quit after twelve months"),
        ("care plan still on", "protection thing expired", "who pays the repair"),
        ("shield plan valid", "swap program eligible", "coverage check on my serial"),
    ),
    "discount": (
        ("my voucher does not work", "do you have a discount code", "the coupon was rejected"),
        ("promo says invalid", "any deals going", "code wont apply"),
        ("influencer code is a dud", "points wont burn", "price drop not honoured"),
        ("the perk glitched", "student deal greyed out", "flash sale lied"),
    ),
    "address": (
        ("change my delivery address", "i moved to a new flat", "ship it to another street"),
        ("wrong house on the label", "new digs update my info", "send it to the office instead"),
        ("redirect to my neighbour", "swap the drop spot", "pin is off by a block"),
        ("geo tag is wrong", "reroute to the pickup shelf", "postcode typo help"),
    ),
    "subscription": (
        ("end my subscription", "i do not want the monthly plan any more", "turn off the automatic renewal"),
        ("stop billing me every month", "quit the membership", "unsub me"),
        ("free trial trapped me", "auto renew got me again", "leave the club"),
        ("pause the box", "downgrade to the zero tier", "drop the premium thing"),
    ),
    "payment": (
        ("my card was declined", "i was charged twice", "the payment does not go through"),
        ("double hit on my card", "bank says no", "checkout spins forever"),
        ("wallet tap fails", "pay later option vanished", "pending for days"),
        ("split pay stuck", "crypto slot errors", "phone pay times out"),
    ),
    "human": (
        ("let me talk to a person", "i want to speak to an agent", "connect me with support"),
        ("real human pls", "enough of the bot", "get me someone alive"),
        ("agent agent agent", "stop auto replying", "anyone there with a pulse"),
        ("escalate this", "i want your manager", "no more scripts"),
    ),
}
OPENINGS = (
    "", "", "", "hi", "hello", "hey there", "good morning", "help", "sorry to bother you but", "ok so", "quick question", "ugh",
)  # fmt: skip
ENDINGS = (
    "", "", "", "thanks", "please help", "asap", "this is urgent", "for order {number}", "order {number}", "!!", "??",
    "since monday", "it has been a week", "very disappointed",
)  # fmt: skip
