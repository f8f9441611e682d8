"""Rare tokens of CLIP's vocabulary that read like no word and yet stand for something: names, places, companies, clubs,
broadcasters, abbreviations, hashtags and abuse. Looked through by hand, among all that `rare_words` would suggest."""

_TOKENS = """
acdc adnan afcb aioli ajit akaif akos akshi alek altaf amigo anja anjo antv apur aruba arvo asli asot attu ayama ayas
azhar azzy bbuk bcoz bezos bios bnha bsgo bueno buka bwfc byte cett choa cmdr cmon cnet coed coeur copd coyi cpac cpec
cwgc daan ddos deja deuce deux dewey diem dijk divya dprk drwho dulce duvet edad efcc egos eira elba emcee enei enka
eoin epsom erjee espnu etna ewan eyre fdny fevre ffxv fiore fios foxtv freud fryer ftse fuego gaal garza gasp gawd
gawx gaye genoa giddy giggs gmbh gumbo guyz gyan gypt haji hauer hayat hbcu hebdo hgtv hika hiko himss hiya hobo hogg
htafc httr hwan hymn ibis ibrox idris igbo ihop ilwx imac ingco irgc isro jakob jerky jinx jisoo joao juju jyoti kaido
kaka kanu kapur kasa katsu kauai kawhi keanu keef khaki khloe khtar kidz kiko kiln kiri kiwis kiya kobo kofi kohl koko
kori kosh kprc kprs kuro kwame kylo leur lewd lgbti lili loeb lucci lynda lyrix lyte maar mako mamba mami manoj mauro
mbps mesut metz migos miho milb minh miwx mlas mley mmva mnleg moana mohd motm mowx mswx mufti nafta naidu nasi nasir
navi ncbd ncds ncpol neha neko niko nikov niro njcaa nlwx nmwx nueva nuns nwsl nycfc nyrd ogden ohwx oomf oreos otaku
oxfam ozil pafc paola paytm pesa pesos piff pika pippa pknot pryor psst ptbo quoi radha rajiv raju raqqa rctid rfid
rhett riba rigid rimo rizzo rlly rofl roux rspca sadiq saif sakh satu scwx sdsu sewn shrub shub shui sikhs situ siya
slav smma smog smug snhl snip snug sobre songz sosa soyuz spdwy sqft srsly ssnhq stfu stik suka swagg swfl synod taku
tariq techs tedx tlap tlot topaz ttip tvxq txst tyga tzky uaap ufos unfpa unhcr unlv uscg utpol uzzi vaca vacay vada
vday vidya vigo vimeo vinod vius vlad vogel wafc wahoo waifu wamy wawx wcpo weho weta wftv whyte wiiu wiwx wkend worx
wsoc wsop wurst wusa wwdc wwfc wylie xian xiao xtina yaki yemi ylan ylde yler ylor yuma zafar zaha zain zaki zani
zappa zawa zedd zeiss zeke zetta zola zshq
"""
MEANINGFUL = frozenset(_TOKENS.split())
