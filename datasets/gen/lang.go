package gen

// language holds the parts that sentences of one language are made of. Frames
// have slots: S a noun phrase that can be a subject (lower case), V what it
// does (third person, present), P where, T when, A an aside, N a number, M a
// name, I an identifier. All of it was written for this package.
type language struct {
	code     string
	frames   []string
	subjects []string
	verbs    []string
	places   []string
	times    []string
	asides   []string
	// questions end a prompt; {M} and {I} stand for what it was about.
	questions []string
	tasks     []string
	headings  []string
	// modifiers come with a subject now and then: before its last words where
	// they end with a space and the language has articles, else after it.
	adjectives []string
	modifiers  []string
	// repeats lead in a passage that stood above already.
	repeats []string
	// space separates sentences.
	space string
	// words of the frame around passages.
	request, document, question, user, assistant, tool, excerpt string
}

// Languages lists the codes of the languages that prose is written in.
func Languages() []string {
	codes := make([]string, len(languages))
	for i, l := range languages {
		codes[i] = l.code
	}
	return codes
}

func lookup(code string) *language {
	for _, l := range languages {
		if l.code == code {
			return l
		}
	}
	return nil
}

var languages = []*language{english, german, french, spanish, chinese, japanese}

var english = &language{
	code: "en", space: " ",
	request: "Request", document: "Document", question: "Question", user: "User", assistant: "Assistant", tool: "Tool", excerpt: "Excerpt",
	frames: []string{
		"{S} {V}.", "{S} {V}, and {S} {V}.", "{T}, {S} {V}.", "{S} {V} {P}.", "When {S} {V}, {S} {V}.",
		"According to {M}, {S} {V} {P}, although {S} {V}.", "Of {N} cases examined {P}, {N} showed that {S} {V}.",
		"If {S} {V}, then {S} {V}, {A}.", "{M} reports that {S} {V}.", "{T}, {M} noted that {S} {V} while {S} {V}.",
		"It is not obvious why {S} {V}; {A}, {S} {V}.", "Between {N} and {N} units, {S} {V}.",
		"{S} {V} because {S} {V}.", "The entry {I} says that {S} {V}, {A}.", "{A}, {S} {V} {P}.",
		"Nobody expected that {S} {V} {T}.", "See {I}: {S} {V}.", "{S}, {A}, {V}.", "Before {S} {V}, {M} checks whether {S} {V}.",
		"As long as {S} {V}, the total stays below {N}.", "What matters here is that {S} {V}.",
	},
	subjects: []string{
		"the pump station", "the night shift", "the storage layer", "the harvest survey", "a second reviewer", "the water level", "the old index",
		"the request queue", "the regional office", "this estimate", "the control group", "the backup line", "the archive", "every new tenant",
		"the pressure sensor", "the reading room", "the delivery plan", "the test fleet", "the scheduler", "the winter timetable", "a small committee",
		"the maintenance window", "the inspection report", "the northern route", "the field team", "the contract", "the cost model", "the filter bed",
		"the cooling loop", "the ferry operator", "the data steward", "the allocation rule", "the bridge survey", "the seed bank", "the license office",
		"the laboratory", "the ground station", "a cautious reading of the figures", "the replacement part", "the public record", "the training schedule",
		"the quarterly audit", "the soil sample", "the transfer agreement", "the translation team", "the signal box", "the freight yard", "the appeals panel",
	},
	verbs: []string{
		"keeps a copy of the log", "needs another week", "depends on the weather", "returns the same answer", "was moved to the east wing", "covers most of the demand",
		"fails without a warning", "holds more than it should", "draws less power than planned", "follows the written procedure", "explains the difference",
		"runs late by a few minutes", "accepts corrections until Friday", "reduces the waiting time", "was never measured twice", "leaves a gap in the series",
		"agrees with the earlier result", "rejects about one in ten", "replaces the manual count", "has to be cleaned by hand", "shows a slow upward trend",
		"cannot be repaired on site", "stores the original order", "raises a question about safety", "belongs to another department", "saves a long detour",
		"records every change with its author", "starts again from the last checkpoint", "takes the longer path around the lake", "settles within two hours",
		"ignores values outside the range", "proves cheaper over ten years", "must be signed by two people", "doubles the number of samples",
		"stays open during the repair", "contradicts the first survey", "serves three villages", "is checked against a reference",
	},
	places:     []string{"near the harbour", "in the southern district", "on the upper floor", "at the test site", "along the canal", "in the second building", "behind the main hall", "at most stations", "in the appendix", "across the valley", "on older machines", "in the spring data"},
	times:      []string{"In the first year", "After the flood", "On most days", "Since the last revision", "During the trial", "By the end of March", "Twice a week", "Before the merger", "In cold weather", "Over the following months", "At the third attempt", "Until recently"},
	asides:     []string{"as the table shows", "for reasons given below", "at least in part", "with one exception", "to everyone's surprise", "as far as is known", "in other words", "if the figures are right", "strictly speaking", "under the same conditions"},
	headings:   []string{"Background", "Method", "Findings", "Open points", "Costs", "Schedule", "Risks", "Responsibilities", "Earlier work", "Measurements", "Discussion", "Next steps"},
	questions:  []string{"Which of the statements about {I} contradict each other, and which one would you trust?", "What did {M} recommend, and what follows for {I}?", "List everything that is said about {I}, in order, with the place where it is said.", "Summarise the position of {M} and compare it with that of the other authors."},
	tasks:      []string{"Answer at length, section by section, and quote the passages that you rely on.", "Write a full report with an introduction, one chapter for each document, and a conclusion.", "Explain every step in detail; do not leave out intermediate results.", "Think about each part in turn, then write the complete result."},
	adjectives: []string{"old", "new", "second", "northern", "small", "revised", "temporary", "larger", "quiet", "damaged", "municipal", "earlier", "remote", "shared", "unmarked", "rebuilt", "narrow", "seasonal", "private", "automatic", "upper", "disputed", "heavier", "nearest", "provisional", "combined", "outer", "historic", "rented", "spare", "mobile", "covered"},
	modifiers:  []string{" of {M}", " in zone {N}", " under contract {I}", " from {N} metres", " with {N} members", " near {M} Street", " listed as {I}", " on line {N}", " built by {M}", " after revision {I}"},
	repeats:    []string{"As quoted above:", "The same passage again, for reference:", "To repeat the relevant part:"},
}

var german = &language{
	code: "de", space: " ",
	request: "Anfrage", document: "Dokument", question: "Frage", user: "Nutzer", assistant: "Assistent", tool: "Werkzeug", excerpt: "Auszug",
	frames: []string{
		"{S} {V}.", "{S} {V}, und {S} {V}.", "Nach Angaben von {M} gilt: {S} {V}.", "{M} schreibt dazu: {S} {V}; {S} {V}.", "Von {N} Fällen zeigten {N} dasselbe: {S} {V}.",
		"Der Eintrag {I} besagt: {S} {V}.", "{S} {V} {P}.", "{A}: {S} {V}.", "Ein Grund dafür ist bekannt: {S} {V}.", "Zwischen {N} und {N} Einheiten gilt, {S} {V}.",
		"Siehe {I}; {S} {V}, {A}.", "Zu beachten bleibt: {S} {V} {P}, und {S} {V}.",
	},
	subjects:  []string{"die Pumpstation", "der Prüfbericht", "die Nachtschicht", "das alte Verzeichnis", "der Lieferplan", "die Versuchsreihe", "das Landesamt", "die Kostenschätzung", "der zweite Gutachter", "die Warteschlange", "das Messfahrzeug", "der Wasserstand", "die Ersatzleitung", "das Kühlsystem", "der Vertrag", "die Stichprobe", "das Archiv", "der Fahrplan", "die Wartung", "das Ergebnis", "der Güterbahnhof", "die Übersetzung", "das Gremium", "die Bodenprobe"},
	verbs:     []string{"bestätigt den früheren Befund", "braucht eine weitere Woche", "hängt vom Wetter ab", "liefert stets denselben Wert", "deckt den größten Teil des Bedarfs", "fällt ohne Warnung aus", "folgt der schriftlichen Anweisung", "erklärt den Unterschied nicht", "verkürzt die Wartezeit deutlich", "wurde nie zweimal gemessen", "widerspricht der ersten Erhebung", "muss von Hand gereinigt werden", "verzeichnet jede Änderung mit Namen", "steigt langsam an", "lässt eine Lücke in der Reihe", "gehört zu einer anderen Abteilung", "spart einen langen Umweg", "wird gegen eine Referenz geprüft", "bleibt während der Arbeiten geöffnet", "überschreitet den zulässigen Bereich"},
	places:    []string{"am Hafen", "im südlichen Bezirk", "im Obergeschoss", "an der Teststrecke", "entlang des Kanals", "im Anhang", "an den meisten Stationen", "hinter der Haupthalle"},
	times:     []string{"Im ersten Jahr", "Nach dem Hochwasser", "Seit der letzten Fassung"},
	asides:    []string{"wie die Tabelle zeigt", "mit einer Ausnahme", "zumindest teilweise", "soweit bekannt", "streng genommen", "unter gleichen Bedingungen"},
	headings:  []string{"Hintergrund", "Vorgehen", "Ergebnisse", "Offene Punkte", "Kosten", "Zeitplan", "Risiken", "Zuständigkeiten", "Messwerte", "Ausblick"},
	questions: []string{"Welche Aussagen über {I} widersprechen einander, und welcher würdest du trauen?", "Was empfiehlt {M}, und was folgt daraus für {I}?", "Nenne alles, was über {I} gesagt wird, der Reihe nach und mit Fundstelle."},
	tasks:     []string{"Antworte ausführlich, Abschnitt für Abschnitt, und zitiere die Stellen, auf die du dich stützt.", "Schreibe einen vollständigen Bericht mit Einleitung, einem Kapitel je Dokument und einem Schluss."},
	modifiers: []string{" von {M}", " in Abschnitt {N}", " nach Vertrag {I}", " mit {N} Plätzen", " an der {M}straße", " unter Nummer {I}", " auf Linie {N}", " aus dem Jahr {N}"},
	repeats:   []string{"Wie oben zitiert:", "Zur Erinnerung noch einmal dieselbe Stelle:"},
}

var french = &language{
	code: "fr", space: " ",
	request: "Demande", document: "Document", question: "Question", user: "Utilisateur", assistant: "Assistant", tool: "Outil", excerpt: "Extrait",
	frames: []string{
		"{S} {V}.", "{S} {V}, et {S} {V}.", "Selon {M}, {S} {V}.", "{T}, {S} {V}.", "Sur {N} cas étudiés, {N} montrent que {S} {V}.", "La fiche {I} indique que {S} {V}.",
		"{S} {V} {P}.", "{A}, {S} {V}.", "{M} ajoute que {S} {V} parce que {S} {V}.", "Entre {N} et {N} unités, {S} {V}.", "Voir {I} : {S} {V}, {A}.", "Personne ne sait pourquoi {S} {V} {P}.",
	},
	subjects:  []string{"la station de pompage", "le rapport de contrôle", "la deuxième équipe", "le vieux registre", "le plan de livraison", "la série de mesures", "le bureau régional", "la file d'attente", "le niveau de la rivière", "le circuit de secours", "la commission", "le contrat", "le premier relevé", "la salle de lecture", "le modèle de coût", "la voie du nord", "le laboratoire", "la réserve de semences", "le dépôt", "la traduction"},
	verbs:     []string{"confirme le résultat précédent", "demande une semaine de plus", "dépend du temps qu'il fait", "donne toujours la même réponse", "couvre l'essentiel des besoins", "tombe en panne sans prévenir", "suit la procédure écrite", "n'explique pas l'écart", "réduit le temps d'attente", "n'a jamais été mesuré deux fois", "contredit la première enquête", "doit être nettoyé à la main", "garde une trace de chaque modification", "laisse un vide dans la série", "évite un long détour", "reste ouvert pendant les travaux", "dépasse la limite fixée", "reprend au dernier point connu"},
	places:    []string{"près du port", "dans le district sud", "à l'étage", "le long du canal", "en annexe", "dans la plupart des gares", "derrière le hall principal"},
	times:     []string{"La première année", "Après la crue", "Depuis la dernière version", "Pendant l'essai", "Deux fois par semaine"},
	asides:    []string{"comme le montre le tableau", "à une exception près", "du moins en partie", "à proprement parler", "dans les mêmes conditions"},
	headings:  []string{"Contexte", "Méthode", "Résultats", "Points ouverts", "Coûts", "Calendrier", "Risques", "Mesures", "Suite à donner"},
	questions: []string{"Quelles affirmations sur {I} se contredisent, et à laquelle te fierais-tu ?", "Que recommande {M}, et qu'en résulte-t-il pour {I} ?", "Relève tout ce qui est dit de {I}, dans l'ordre, avec l'endroit."},
	tasks:     []string{"Réponds longuement, section par section, en citant les passages utilisés.", "Rédige un rapport complet avec une introduction, un chapitre par document et une conclusion."},
	modifiers: []string{" de {M}", " du secteur {N}", " selon le contrat {I}", " à {N} places", " de la rue {M}", " sous le numéro {I}", " de la ligne {N}", " de l'année {N}"},
	repeats:   []string{"Comme cité plus haut :", "Le même passage, pour rappel :"},
}

var spanish = &language{
	code: "es", space: " ",
	request: "Solicitud", document: "Documento", question: "Pregunta", user: "Usuario", assistant: "Asistente", tool: "Herramienta", excerpt: "Fragmento",
	frames: []string{
		"{S} {V}.", "{S} {V}, y {S} {V}.", "Según {M}, {S} {V}.", "{T}, {S} {V}.", "De {N} casos revisados, {N} muestran que {S} {V}.", "La ficha {I} dice que {S} {V}.",
		"{S} {V} {P}.", "{A}, {S} {V}.", "{M} añade que {S} {V} porque {S} {V}.", "Entre {N} y {N} unidades, {S} {V}.", "Véase {I}: {S} {V}, {A}.", "Nadie esperaba que esto fuera cierto: {S} {V} {P}.",
	},
	subjects:  []string{"la estación de bombeo", "el informe de inspección", "el turno de noche", "el antiguo registro", "el plan de entrega", "la serie de medidas", "la oficina regional", "la cola de peticiones", "el nivel del río", "la línea de respaldo", "el comité", "el contrato", "la primera encuesta", "la sala de lectura", "el modelo de costes", "la ruta del norte", "el laboratorio", "el banco de semillas", "el almacén", "la traducción"},
	verbs:     []string{"confirma el resultado anterior", "necesita otra semana", "depende del tiempo", "da siempre la misma respuesta", "cubre la mayor parte de la demanda", "falla sin aviso", "sigue el procedimiento escrito", "no explica la diferencia", "reduce el tiempo de espera", "nunca se midió dos veces", "contradice la primera encuesta", "debe limpiarse a mano", "guarda cada cambio con su autor", "deja un hueco en la serie", "evita un largo rodeo", "sigue en servicio durante las obras", "supera el límite fijado", "vuelve a empezar desde el último punto"},
	places:    []string{"cerca del puerto", "en el distrito sur", "en la planta alta", "junto al canal", "en el anexo", "en la mayoría de las estaciones"},
	times:     []string{"El primer año", "Tras la inundación", "Desde la última revisión", "Durante la prueba", "Dos veces por semana"},
	asides:    []string{"como muestra la tabla", "con una excepción", "al menos en parte", "en sentido estricto", "en las mismas condiciones"},
	headings:  []string{"Antecedentes", "Método", "Resultados", "Puntos abiertos", "Costes", "Calendario", "Riesgos", "Medidas", "Próximos pasos"},
	questions: []string{"¿Qué afirmaciones sobre {I} se contradicen, y en cuál confiarías?", "¿Qué recomienda {M}, y qué se sigue de ello para {I}?", "Enumera todo lo que se dice de {I}, en orden y con el lugar."},
	tasks:     []string{"Responde con detalle, sección por sección, y cita los pasajes en que te apoyas.", "Escribe un informe completo con introducción, un capítulo por documento y una conclusión."},
	modifiers: []string{" de {M}", " del sector {N}", " según el contrato {I}", " con {N} plazas", " de la calle {M}", " con el número {I}", " de la línea {N}", " del año {N}"},
	repeats:   []string{"Como se citó arriba:", "El mismo pasaje, como recordatorio:"},
}

var chinese = &language{
	code: "zh", space: "",
	request: "请求", document: "文件", question: "问题", user: "用户", assistant: "助手", tool: "工具", excerpt: "摘录",
	frames: []string{
		"{S}{V}。", "{S}{V}，而{S}{V}。", "据{M}介绍，{S}{V}。", "{T}，{S}{V}。", "在{N}个案例中，有{N}个表明{S}{V}。", "条目{I}指出，{S}{V}。", "{P}，{S}{V}。", "{A}，{S}{V}。",
		"{M}认为{S}{V}，因为{S}{V}。", "数量在{N}到{N}之间时，{S}{V}。", "参见{I}：{S}{V}，{A}。", "如果{S}{V}，那么{S}{V}。",
	},
	subjects:  []string{"泵站", "检查报告", "夜班小组", "旧索引", "配送计划", "第二组测量数据", "地区办公室", "请求队列", "河水水位", "备用线路", "委员会", "这份合同", "第一次调查", "阅览室", "成本模型", "北线", "实验室", "种子库", "仓库", "译文", "调度程序", "冷却回路", "土壤样本", "冬季时刻表"},
	verbs:     []string{"证实了先前的结果", "还需要一周时间", "取决于天气情况", "总是给出相同的答案", "满足了大部分需求", "会在没有警告的情况下失效", "遵循书面流程", "无法解释这一差异", "缩短了等待时间", "从未被重复测量", "与第一次调查相矛盾", "必须人工清洗", "记录了每一次修改及其作者", "在序列中留下了空白", "避免了很长的绕行", "在施工期间仍然开放", "超出了规定的范围", "会从上一个检查点重新开始", "呈现缓慢上升的趋势", "属于另一个部门"},
	places:    []string{"在港口附近", "在南部地区", "在楼上", "沿着运河", "在附录中", "在大多数站点"},
	times:     []string{"第一年", "洪水之后", "自上次修订以来", "试验期间", "每周两次", "到三月底"},
	asides:    []string{"如表所示", "除了一个例外", "至少部分如此", "严格来说", "在相同条件下"},
	headings:  []string{"背景", "方法", "结果", "未决问题", "成本", "时间安排", "风险", "测量", "后续步骤"},
	questions: []string{"关于{I}的哪些说法互相矛盾，你会相信哪一个？", "{M}提出了什么建议，这对{I}意味着什么？", "请按顺序列出关于{I}的所有内容，并注明出处。"},
	tasks:     []string{"请逐节详细回答，并引用你所依据的段落。", "请写一份完整的报告，包括引言、每个文件一章以及结论。"},
	modifiers: []string{"（{I}）", "（{M}负责）", "（第{N}区）", "（合同{I}）", "（{N}号线）"},
	repeats:   []string{"如上文所引：", "为便于参考，再次列出同一段："},
}

var japanese = &language{
	code: "ja", space: "",
	request: "依頼", document: "文書", question: "質問", user: "利用者", assistant: "アシスタント", tool: "ツール", excerpt: "抜粋",
	frames: []string{
		"{S}は{V}。", "{M}によれば、{S}は{V}。", "{T}、{S}は{V}。", "{N}件のうち{N}件で、{S}は{V}。", "項目{I}にあるとおり、{S}は{V}。", "{P}、{S}は{V}。", "{A}、{S}は{V}。",
		"{M}の報告では、{S}は{V}。また、{S}は{V}。", "{I}を参照。{S}は{V}。",
	},
	subjects:  []string{"ポンプ場", "検査報告書", "夜勤の班", "古い索引", "配送計画", "二回目の測定", "地方事務所", "待ち行列", "川の水位", "予備の回線", "委員会", "この契約", "最初の調査", "閲覧室", "費用の見積もり", "北の路線", "研究室", "倉庫", "翻訳", "冷却装置"},
	verbs:     []string{"以前の結果を裏づけている", "あと一週間を必要とする", "天候に左右される", "常に同じ値を返す", "需要の大部分を満たしている", "警告なしに停止することがある", "書面の手順に従っている", "差の理由を説明していない", "待ち時間を短くする", "二度は測定されていない", "最初の調査と矛盾している", "手作業で清掃しなければならない", "すべての変更を記録している", "工事中も利用できる", "定められた範囲を超えている", "ゆるやかに増加している"},
	places:    []string{"港の近くでは", "南の地区では", "上の階では", "運河沿いでは", "付録では", "多くの駅で"},
	times:     []string{"最初の年に", "洪水の後", "前回の改訂以来", "試験の間", "週に二回", "三月末までに"},
	asides:    []string{"表が示すように", "一つの例外を除いて", "少なくとも部分的には", "厳密に言えば", "同じ条件のもとで"},
	headings:  []string{"背景", "方法", "結果", "未解決の点", "費用", "日程", "リスク", "測定", "今後の予定"},
	questions: []string{"{I}についての記述のうち、互いに矛盾するものはどれですか。どちらを信頼しますか。", "{M}は何を勧めていますか。それは{I}にとって何を意味しますか。"},
	tasks:     []string{"節ごとに詳しく答え、根拠とした箇所を引用してください。", "序論、文書ごとの章、結論からなる完全な報告書を書いてください。"},
	modifiers: []string{"（{I}）", "（{M}担当）", "（第{N}区）", "（契約{I}）", "（{N}号線）"},
	repeats:   []string{"上で引用したとおり：", "参考のため、同じ箇所をもう一度示す："},
}
